"""The rows of what has been received: what each batch of instances changes about its studies, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, insert, select, text, update
from sqlalchemy.orm import Session

from node.files import DataFolder, Folders, safe_name
from node.receive.header_scan import Identity
from node.states import State, move
from node.tables import Event, Instance, Series, Study, now

log = logging.getLogger(__name__)

# Of so many series the rows' numbers are remembered; the others are looked up again.
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Arrival:
    """One instance whose bytes are on disk under ``path`` (relative to the data folder), waiting for its row."""

    identity: Identity
    digest: str
    path: str
    size: int
    sender: str


@dataclass(frozen=True)
class _Place:
    study: int
    series: int


class Ledger:
    """Writes batches of arrivals durably: their folders' entries fsynced, their rows committed."""

    def __init__(self, engine: Engine, data: DataFolder, folders: Folders) -> None:
        self._engine = engine
        self._data = data
        self._folders = folders
        self._places: dict[tuple[str, str], _Place] = {}

    def write(self, batch: Sequence[Arrival]) -> None:
        """Raises OSError or SQLAlchemyError; then nothing of the batch is recorded."""
        for folder in {(self._data.root / arrival.path).parent for arrival in batch}:
            self._folders.sync(folder)
        if len(self._places) > _REMEMBERED:
            self._places.clear()
        try:
            with self._engine.connect() as connection:
                connection.execute(text("BEGIN IMMEDIATE"))
                record(connection, batch, self._places)
                connection.commit()
        except Exception:
            self._places.clear()  # may hold numbers of rows that were rolled back
            raise


def record(connection: Connection, batch: Sequence[Arrival], places: dict[tuple[str, str], _Place]) -> None:
    """Write instances and what they change about their studies, within a transaction that holds the write lock.

    The same bytes again change nothing; other bytes under the same SOP Instance UID become the current version.
    ``places`` remembers the rows of series between calls.
    """
    for arrival in batch:
        key = _key(arrival)
        if key not in places:
            places[key] = _place(connection, arrival)
    known = _versions(connection, {places[_key(arrival)].series for arrival in batch},
                      {arrival.identity.sop_instance_uid for arrival in batch})  # fmt: skip
    rows: list[dict[str, Any]] = []
    touched: dict[int, str] = {}
    for arrival in batch:
        place = places[_key(arrival)]
        versions = known.setdefault((place.series, arrival.identity.sop_instance_uid), set())
        if arrival.digest in versions:
            continue
        versions.add(arrival.digest)
        rows.append(_row(arrival, place, len(versions)))
        if len(versions) > 1:
            _replace(connection, arrival, place, len(versions), rows)
        # Our own result, routed back by the PACS, is kept, but it says nothing new about the study.
        if not arrival.identity.ours:
            touched[place.study] = arrival.sender
    if rows:
        connection.execute(insert(Instance.__table__), rows)  # type: ignore[arg-type]
    if touched:
        _touch(connection, touched)


def _key(arrival: Arrival) -> tuple[str, str]:
    return arrival.identity.study_instance_uid, arrival.identity.series_instance_uid


def _place(connection: Connection, arrival: Arrival) -> _Place:
    """The rows of its study and series, made when this is their first instance."""
    identity = arrival.identity
    with Session(connection) as session:
        study = session.scalar(select(Study).where(Study.study_instance_uid == identity.study_instance_uid))
        if study is None:
            study = Study(
                key=safe_name(identity.study_instance_uid), study_instance_uid=identity.study_instance_uid,
                patient_id=identity.patient_id, accession_number=identity.accession_number,
                study_date=identity.study_date, state=State.RECEIVING, reason="instances are arriving",
            )  # fmt: skip
            session.add(study)
            session.flush()
            why = "first instance"
            session.add(Event(study_id=study.id, who=arrival.sender, what=f"→ {State.RECEIVING}", why=why))
        series = session.scalar(
            select(Series).where(
                Series.study_id == study.id, Series.series_instance_uid == identity.series_instance_uid
            )
        )
        if series is None:
            series = Series(
                study_id=study.id, key=safe_name(identity.series_instance_uid),
                series_instance_uid=identity.series_instance_uid, description=identity.series_description,
                number=identity.series_number, modality=identity.modality, role=None,
            )  # fmt: skip
            session.add(series)
        session.flush()
        return _Place(study.id, series.id)


def _versions(connection: Connection, series: set[int], uids: set[str]) -> dict[tuple[int, str], set[str]]:
    """The digests that each of these instances is held with."""
    found: dict[tuple[int, str], set[str]] = {}
    rows = connection.execute(
        select(Instance.series_id, Instance.sop_instance_uid, Instance.digest).where(
            Instance.series_id.in_(series), Instance.sop_instance_uid.in_(uids)
        )
    )
    for series_id, uid, digest in rows:
        found.setdefault((series_id, uid), set()).add(digest)
    return found


def _row(arrival: Arrival, place: _Place, version: int) -> dict[str, Any]:
    return {
        "series_id": place.series, "sop_instance_uid": arrival.identity.sop_instance_uid, "version": version,
        "current": True, "digest": arrival.digest, "path": arrival.path, "size": arrival.size,
        "sender": arrival.sender, "received": now(),
        "header": {"sop_class_uid": arrival.identity.sop_class_uid},
    }  # fmt: skip


def is_unread() -> ColumnElement[bool]:
    """Instances that only the receiver has looked at: their SOP class is known, the rest is for the collector."""
    return and_(
        Instance.header["sop_class_uid"].as_string().is_not(None),
        Instance.header["sop_instance_uid"].as_string().is_(None),
    )


def _replace(
    connection: Connection, arrival: Arrival, place: _Place, version: int, rows: Sequence[dict[str, Any]]
) -> None:
    """Other bytes under a known SOP Instance UID: the versions before are no longer current."""
    uid = arrival.identity.sop_instance_uid
    connection.execute(
        update(Instance).where(Instance.series_id == place.series, Instance.sop_instance_uid == uid)
        .values(current=False)
    )  # fmt: skip
    for row in rows[:-1]:
        if row["series_id"] == place.series and row["sop_instance_uid"] == uid:
            row["current"] = False
    why = f"SOP instance {uid} came again with other content; version {version}"
    log.warning("study %s: %s", safe_name(arrival.identity.study_instance_uid), why)
    connection.execute(
        insert(Event).values(study_id=place.study, at=now(), who=arrival.sender, what="new version", why=why)
    )


def _touch(connection: Connection, touched: dict[int, str]) -> None:
    """Their studies have something new to be judged."""
    states = connection.execute(
        update(Study).where(Study.id.in_(touched)).values(last_received=now(), unjudged=True)
        .returning(Study.id, Study.state)
    ).all()  # fmt: skip
    for study_id, state in states:
        if state == State.INCOMPLETE:
            with Session(connection) as session:
                study = session.get_one(Study, study_id)
                move(session, study, State.RECEIVING, "a late instance arrived", touched[study_id])
                session.flush()
