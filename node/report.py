"""What the command line says of a study: plain data, made from the tables; no patient's name is in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from node.quality import records
from node.routing.decide import Route
from node.routing.record import last_decision
from node.routing.rules import Priority
from node.states import State
from node.tables import DerivedSeriesRow, Event, Instance, QualityCheck, Quarantined, Series, Study

_CONTROL = dict.fromkeys(range(32)) | dict.fromkeys(range(127, 160))


def plain(text: str) -> str:
    """Text from outside without control characters, which a terminal would obey."""
    return text.translate(_CONTROL)


def study_lines(session: Session, state: State | None = None) -> list[dict[str, Any]]:
    """The lines of `studies list`, the newest first. Instances are counted by the database: there may be millions."""
    query = select(Study).order_by(Study.id.desc()).options(selectinload(Study.routes))
    if state is not None:
        query = query.where(Study.state == state)
    counts = (
        select(Series.study_id, func.count(Instance.id)).join(Instance, Instance.series_id == Series.id)
        .where(Instance.current).group_by(Series.study_id)
    )  # fmt: skip
    instances = dict(session.execute(counts).all())
    return [_summary(study, instances.get(study.id, 0)) for study in session.scalars(query)]


def _summary(study: Study, instances: int) -> dict[str, Any]:
    return {
        "key": study.key,
        "study_instance_uid": plain(study.study_instance_uid),
        "study_date": plain(study.study_date),
        "accession_number": plain(study.accession_number),
        "state": study.state,
        "priority": study.routes[-1].priority if study.routes else Priority.ROUTINE,
        "reason": plain(study.reason),
        "doing": plain(study.doing),
        "progress": study.progress,
        "instances": instances,
    }


def describe_study(session: Session, study: Study) -> dict[str, Any]:
    """All of `studies show`."""
    quarantined = session.scalars(select(Quarantined).where(Quarantined.claimed_study == study.study_instance_uid))
    return {
        **_summary(study, sum(instance.current for series in study.series for instance in series.instances)),
        "patient_id": plain(study.patient_id),
        "run": study.run,
        "inputs_digest": study.inputs_digest,
        "held": [plain(line) for line in study.held],
        "missing": [plain(line) for line in study.missing],
        "missing_optional": [plain(line) for line in study.missing_optional],
        "first_received": _moment(study.first_received),
        "last_received": _moment(study.last_received),
        "series": [
            {
                "number": series.number,
                "description": plain(series.description),
                "modality": plain(series.modality),
                "series_instance_uid": plain(series.series_instance_uid),
                "role": series.role,
                "because": plain(series.because),
                "instances": sum(instance.current for instance in series.instances),
                "versions": len(series.instances),
            }
            for series in study.series
        ],
        "route": _route(last_decision(session, study)),
        "quality": _quality(records.latest(session, study)),
        "derived": [_derived(row, study.derived) for row in study.derived],
        "quarantined": [describe_quarantined(row) for row in quarantined],
        "events": [_event(event) for event in study.events],
    }


def event_lines(session: Session, last: int, *, without_study: bool) -> list[dict[str, Any]]:
    """The lines of `events`: so many, the newest at the end; ``without_study``: only those that belong to none."""
    query = select(Event, Study.key).outerjoin(Study, Study.id == Event.study_id).order_by(Event.id.desc()).limit(last)
    if without_study:
        query = query.where(Event.study_id.is_(None))
    rows = session.execute(query).all()
    return [{"study": key or "", **_event(event)} for event, key in reversed(rows)]


def _event(event: Event) -> dict[str, str]:
    return {"at": _moment(event.at), "who": plain(event.who), "what": plain(event.what), "why": plain(event.why)}


def describe_quarantined(row: Quarantined) -> dict[str, Any]:
    """One quarantined object: where it lies, who sent it, and why it is there."""
    return {
        "received": _moment(row.received),
        "sender": plain(row.sender),
        "path": row.path,
        "size": row.size,
        "reason": plain(row.reason),
        "claimed_study": plain(row.claimed_study),
    }


def _route(route: Route | None) -> dict[str, Any]:
    """What the rules decided, and why; empty while nothing is decided."""
    if route is None:
        return {}
    return {
        "rule": route.rule,
        "because": plain(route.because),
        "process": route.process,
        "reason": route.reason,
        "model": route.model,
        "destinations": None if route.destinations is None else list(route.destinations),
        "priority": route.priority,
        "follows": route.follows,
    }


def _quality(row: QualityCheck | None) -> dict[str, Any]:
    """The verdict on what the study holds now, and every measure; empty while there is none."""
    if row is None:
        return {}
    return {
        "verdict": row.verdict,
        "run": row.run,
        "checked": _moment(row.checked),
        "reasons": row.reasons,
        "warnings": row.warnings,
        "accepted_by": plain(row.accepted_by),
        "accepted_because": plain(row.accepted_because),
        "accepted": _moment(row.accepted) if row.accepted else "",
        "measures": row.measures,
    }


def _derived(row: DerivedSeriesRow, all_of_study: Sequence[DerivedSeriesRow]) -> dict[str, Any]:
    """``superseded_by`` is the Series Instance UID of what stands for the study instead; "" where it is this one."""
    return {
        "kind": row.kind,
        "series_instance_uid": row.series_instance_uid,
        "superseded_by": next((one.series_instance_uid for one in all_of_study if one.id == row.superseded_by), ""),
        "model_digest": row.model_digest,
        "made": _moment(row.made),
        "deliveries": [
            {
                "destination": delivery.destination,
                "sop_instance_uid": delivery.sop_instance_uid,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "error": plain(delivery.error),
                "sent": _moment(delivery.sent) if delivery.sent else "",
            }
            for delivery in row.deliveries
        ],
    }


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
