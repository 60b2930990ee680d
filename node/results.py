"""What the derive step leaves: the series' files on disk, and their rows in the delivery ledger."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO

from pydicom import dcmwrite
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.derive.series import DerivedSeries, Provenance
from node.fallback import first_state
from node.files import Work, write_durably
from node.ledger import QUEUED
from node.room import Room
from node.routing.decide import Route
from node.routing.record import route_of
from node.settings import Destination
from node.tables import Delivery, DerivedSeriesRow, Study, now


def first_made(study: Study, header: dict[str, str]) -> datetime:
    """When the result was first made: the same inputs and weights keep their moment, for it is part of the bytes."""
    same = [
        row.made
        for row in study.derived
        if row.inputs_digest == study.inputs_digest and row.model_digest == header["model_digest"]
    ]
    return min(same, default=datetime.fromisoformat(header["created"]))


def places_of(room: Room, route: Route) -> list[Destination]:
    """The destinations that the result is for."""
    return [destination for destination in room.settings.destination if route.goes_to(destination.name)]


def write_files(room: Room, work: Work, made: DerivedSeries) -> list[str]:
    """Put the series' instances on disk; returns their places below the data folder, in order."""
    places = []
    for dataset in made.datasets:
        path = work.derived(made.kind, dataset.SOPInstanceUID)
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        write_durably(buffer.getvalue(), path, room.folder.incoming)
        places.append(path.relative_to(room.folder.root).as_posix())
    return places


def enter_in_ledger(
    room: Room, session: Session, study_id: int, made: DerivedSeries, places: list[str], provenance: Provenance
) -> DerivedSeriesRow:
    """Write the rows of a series whose files are there; rows already there are of an earlier try or identical run."""
    row = session.scalar(
        select(DerivedSeriesRow).where(DerivedSeriesRow.series_instance_uid == made.series_instance_uid)
    )
    if row is None:
        row = DerivedSeriesRow(
            study_id=study_id, series_instance_uid=made.series_instance_uid, kind=made.kind,
            model_digest=provenance.model_digest, inputs_digest=provenance.inputs_digest, made=provenance.created,
        )  # fmt: skip
        session.add(row)
        session.flush()
    known = {(delivery.destination, delivery.sop_instance_uid) for delivery in row.deliveries}
    route = route_of(session, session.get_one(Study, study_id))
    for dataset, place in zip(made.datasets, places, strict=True):
        for destination in places_of(room, route):
            state = first_state(destination, made.kind, room.settings.derived.kinds)
            if state is not None and (destination.name, dataset.SOPInstanceUID) not in known:
                session.add(
                    Delivery(
                        derived_series_id=row.id, destination=destination.name, sop_class_uid=dataset.SOPClassUID,
                        sop_instance_uid=dataset.SOPInstanceUID, state=state, attempts=0,
                        path=place, settled=None if state == QUEUED else now(),
                    )
                )  # fmt: skip
    return row
