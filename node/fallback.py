"""Which kind of derived series a destination gets: the first of its ``kinds`` whose SOP class it accepts.

All of them are made beforehand. In the ledger the first waits to be sent (QUEUED), the others are in reserve (SPARE);
what the destination accepts no presentation context for is NOT_TAKEN, and the next kind takes its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine

from node.database import writing
from node.ledger import NOT_TAKEN, QUEUED, SPARE, deliveries_of
from node.sender import RefusedError
from node.settings import Destination, DimseDestination
from node.tables import Delivery, DerivedSeriesRow, Event, Study, now

log = logging.getLogger(__name__)


def kinds_for(destination: Destination) -> tuple[str, ...]:
    """The kinds of which this destination gets one, the best first; none where it gets each of [derived]."""
    return destination.kinds if isinstance(destination, DimseDestination) else ()


def kinds_to_make(destinations: Iterable[Destination], always: Sequence[str]) -> tuple[str, ...]:
    """What has to be derived so that each destination can be given what it accepts; ``always``: the kinds of [derived].
    """
    return tuple(dict.fromkeys([*always, *(kind for place in destinations for kind in kinds_for(place))]))


def first_state(destination: Destination, kind: str, always: Sequence[str]) -> str | None:
    """How an instance of this kind begins in the ledger; None where the destination does not get it."""
    kinds = kinds_for(destination) or tuple(always)
    if kind not in kinds:
        return None
    return SPARE if kinds_for(destination) and kind != kinds[0] else QUEUED


def choose_kind(engine: Engine, study_id: int, destination: Destination, takes: Callable[[str], bool]) -> None:
    """Have the next kind take the place of one that the destination does not accept (``takes`` of a SOP Class UID).

    What has begun to be sent is not exchanged any more. Raises RefusedError when none in reserve is accepted either.
    """
    with writing(engine) as session:
        study = session.get_one(Study, study_id)
        by_kind: dict[str, list[Delivery]] = {}
        for row in session.scalars(deliveries_of(study, destination.name)):
            by_kind.setdefault(session.get_one(DerivedSeriesRow, row.derived_series_id).kind, []).append(row)
        refused = [kind for kind, rows in by_kind.items() if _is_refused(rows, takes)]
        if not refused:
            return
        spares = [kind for kind in kinds_for(destination) if _is_spare(by_kind.get(kind, []), takes)]
        what = f"{destination.name} accepts no presentation context for {', '.join(refused)}"
        if not spares:
            raise RefusedError(f"{what}, nor for another of its kinds ({', '.join(kinds_for(destination))})")
        why = f"{what}; it gets {spares[0]} instead"
        for row in (row for kind in refused for row in by_kind[kind]):
            row.state, row.error, row.settled = NOT_TAKEN, why, now()
        for row in by_kind[spares[0]]:
            row.state, row.settled = QUEUED, None
        log.info("study %s: %s", study.key, why)
        session.add(Event(study_id=study.id, who=destination.name, what="another kind is sent", why=why))


def _is_refused(rows: Sequence[Delivery], takes: Callable[[str], bool]) -> bool:
    return all(row.state == QUEUED for row in rows) and not all(takes(row.sop_class_uid) for row in rows)


def _is_spare(rows: Sequence[Delivery], takes: Callable[[str], bool]) -> bool:
    return bool(rows) and all(row.state == SPARE and takes(row.sop_class_uid) for row in rows)
