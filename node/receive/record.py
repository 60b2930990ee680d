"""The rows of what has been received: what each batch of instances changes about its studies, in one transaction."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, insert, select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from node.files import safe_name
from node.receive.header_scan import Identity
from node.states import State, Trigger, move
from node.tables import Event, Instance, Series, Study, now

log = logging.getLogger(__name__)

# Of so many series the rows' numbers are remembered; the others are looked up again.
_REMEMBERED = 10_000


def moment() -> str:
    """Now, as SQLAlchemy writes it into SQLite. Later ones sort behind earlier ones."""
    return now().strftime("%Y-%m-%d %H:%M:%S.%f")


@dataclass(frozen=True)
class Arrival:
    """One instance whose bytes are on disk under ``path`` (relative to the data folder), waiting for its row."""

    identity: Identity
    digest: str
    path: str
    size: int
    sender: str
    received: str = field(default_factory=moment)


@dataclass(frozen=True)
class _Place:
    study: int
    series: int


class Ledger:
    """Commits the rows of batches of arrivals, that are durable already. For one thread at a time.

    It keeps its connection, and speaks to the driver itself where every instance passes: SQLAlchemy's care for a
    statement costs more than SQLite's work on it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._places: dict[tuple[str, str], _Place] = {}
        self._connection: Connection | None = None

    def write(self, batch: Sequence[Arrival]) -> None:
        """Raises SQLAlchemyError; then nothing of the batch is recorded."""
        if len(self._places) > _REMEMBERED:
            self._places.clear()
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._connection.exec_driver_sql(f"PRAGMA busy_timeout={_LOCKED_MILLISECONDS}")
                self._connection.rollback()
            with self._connection.begin():
                self._connection.exec_driver_sql("BEGIN IMMEDIATE")
                record(self._connection, batch, self._places)
        except Exception as error:
            self._forget()
            if isinstance(error, sqlite3.Error):  # from the driver itself
                raise OperationalError("recording instances", None, error) from error
            raise

    def _forget(self) -> None:
        """Begin anew: numbers of rows may have been rolled back, the connection may be lost."""
        self._places.clear()
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None


# A sender waits for its answer half a minute or longer; it should hear "out of resources" before it gives up.
_LOCKED_MILLISECONDS = 10_000


def record(connection: Connection, batch: Sequence[Arrival], places: dict[tuple[str, str], _Place]) -> None:
    """Write instances and what they change about their studies, within a transaction that holds the write lock.

    The last word counts: other bytes under the same SOP Instance UID become the current version, whether they are new
    or were that before. The current ones again change nothing, nor does an arrival that has its row already, which
    comes out of the journal after a crash. ``places`` remembers the rows of series between calls.
    """
    driver = connection.connection.cursor()
    rows: dict[tuple[int, str], list[Any]] = {}
    touched: dict[int, str] = {}
    for arrival in batch:
        place = places.get(_key(arrival)) or places.setdefault(_key(arrival), _place(connection, arrival))
        instance = place.series, arrival.identity.sop_instance_uid
        if instance in rows:  # twice in one batch: the second has to find the first
            driver.executemany(_INSERT, list(rows.values()))
            rows.clear()
        held = {digest: version for digest, *version in driver.execute(_VERSIONS, instance)}
        if arrival.digest in held:
            version, current, received = held[arrival.digest]
            if current or arrival.received <= received:
                continue
            _replace(connection, arrival, place, f"as version {version}, which is current again")
            driver.execute(_RESTORE, (arrival.received, arrival.sender, *instance, arrival.digest))
        else:
            if held:
                _replace(connection, arrival, place, f"with other content; version {len(held) + 1}")
            rows[instance] = _row(arrival, place, len(held) + 1)
        # Our own result, routed back by the PACS, is kept, but it says nothing new about the study.
        if not arrival.identity.ours:
            touched[place.study] = arrival.sender
    driver.executemany(_INSERT, list(rows.values()))
    for study_id, sender in touched.items():
        [(state,)] = driver.execute(_TOUCH, (moment(), study_id)).fetchall()
        if state == State.INCOMPLETE:
            _resume(connection, study_id, sender)


_VERSIONS = "SELECT digest, version, current, received FROM instances WHERE series_id = ? AND sop_instance_uid = ?"
_RESTORE = (
    "UPDATE instances SET current = 1, received = ?, sender = ? "
    "WHERE series_id = ? AND sop_instance_uid = ? AND digest = ?"
)
_COLUMNS = ("series_id", "sop_instance_uid", "version", "current", "digest", "path", "size", "sender", "received",
            "header")  # fmt: skip
_INSERT = f"INSERT INTO instances ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_TOUCH = "UPDATE studies SET last_received = ?, unjudged = 1 WHERE id = ? RETURNING state"


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


def _row(arrival: Arrival, place: _Place, version: int) -> list[Any]:
    """In the order of _COLUMNS, as SQLAlchemy's types write them."""
    identity = arrival.identity
    header = json.dumps({"sop_class_uid": identity.sop_class_uid})
    return [place.series, identity.sop_instance_uid, version, 1, arrival.digest, arrival.path, arrival.size,
            arrival.sender, arrival.received, header]  # fmt: skip


def is_unread() -> ColumnElement[bool]:
    """Instances that only the receiver has looked at: their SOP class is known, the rest is for the collector."""
    return and_(
        Instance.header["sop_class_uid"].as_string().is_not(None),
        Instance.header["sop_instance_uid"].as_string().is_(None),
    )


def _replace(connection: Connection, arrival: Arrival, place: _Place, how: str) -> None:
    """Other bytes under a known SOP Instance UID: the versions before are no longer current."""
    uid = arrival.identity.sop_instance_uid
    connection.execute(
        update(Instance).where(Instance.series_id == place.series, Instance.sop_instance_uid == uid)
        .values(current=False)
    )  # fmt: skip
    why = f"SOP instance {uid} came again {how}"
    log.warning("study %s: %s", safe_name(arrival.identity.study_instance_uid), why)
    connection.execute(
        insert(Event).values(study_id=place.study, at=now(), who=arrival.sender, what="new version", why=why)
    )


def _resume(connection: Connection, study_id: int, sender: str) -> None:
    with Session(connection) as session:
        move(session, session.get_one(Study, study_id), Trigger.ARRIVED, "a late instance arrived", sender)
        session.flush()
