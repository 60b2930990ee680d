"""What still waits for a source or a destination that the configuration has not any more: told at the start, with what
to do, rather than whenever its turn would have come."""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.database import writing
from node.ledger import finish, open_deliveries
from node.retrieve import FAILED, OPEN, end, unknown_source
from node.settings import Settings
from node.states import State
from node.tables import Pull, Study


def close_removed(settings: Settings, engine: Engine) -> None:
    """FAIL the pulls that are open for such a source, and finish the studies that wait for nothing but such a
    destination. To be called before anything is fetched or delivered."""
    sources = [source.name for source in settings.source]
    with writing(engine) as session:
        for pull in session.scalars(select(Pull).where(Pull.state.in_(OPEN), Pull.source.not_in(sources))).all():
            end(session, pull, FAILED, unknown_source(pull))
    destinations = {place.name for place in settings.destination}
    with Session(engine) as session:
        waiting = [
            study.id
            for study in session.scalars(select(Study).where(Study.state == State.DELIVERING))
            if {row.destination for row in session.scalars(open_deliveries(study))} - destinations
        ]
    for study_id in waiting:
        finish(settings, engine, study_id)
