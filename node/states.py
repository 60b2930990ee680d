"""The life of a study: its states, and which may follow which. Every move writes an event with its reason."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.orm import Session

from node.tables import Event, Study


class State(StrEnum):
    """Where a study stands."""

    RECEIVING = "RECEIVING"
    INCOMPLETE = "INCOMPLETE"
    QUEUED = "QUEUED"
    CONVERTING = "CONVERTING"
    PREPARING = "PREPARING"
    CHECKING = "CHECKING"
    SYNTHESISING = "SYNTHESISING"
    DERIVING = "DERIVING"
    DELIVERING = "DELIVERING"
    DELIVERED = "DELIVERED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


_STOPS = {State.FAILED, State.CANCELLED}
# A retry resumes at the step that failed, so QUEUED leads to any of them.
_STEPS = (
    State.CONVERTING, State.PREPARING, State.CHECKING, State.SYNTHESISING, State.DERIVING, State.DELIVERING,
)  # fmt: skip

TRANSITIONS: dict[State, frozenset[State]] = {
    State.RECEIVING: frozenset({State.INCOMPLETE, State.QUEUED} | _STOPS),
    State.INCOMPLETE: frozenset({State.RECEIVING, State.QUEUED} | _STOPS),
    State.QUEUED: frozenset({*_STEPS} | _STOPS),
    State.CONVERTING: frozenset({State.PREPARING} | _STOPS),
    # A workflow that an earlier version began knows no CHECKING.
    State.PREPARING: frozenset({State.CHECKING, State.SYNTHESISING} | _STOPS),
    State.CHECKING: frozenset({State.SYNTHESISING, State.REJECTED} | _STOPS),
    State.SYNTHESISING: frozenset({State.DERIVING} | _STOPS),
    State.DERIVING: frozenset({State.DELIVERING} | _STOPS),
    State.DELIVERING: frozenset({State.DELIVERED} | _STOPS),
    State.DELIVERED: frozenset({State.QUEUED}),
    State.REJECTED: frozenset({State.QUEUED, State.CANCELLED}),
    State.FAILED: frozenset({State.QUEUED, State.CANCELLED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}

COLLECTING = frozenset({State.RECEIVING, State.INCOMPLETE})
WORKING = frozenset({State.QUEUED, *_STEPS})


class TransitionError(Exception):
    """A study cannot go from where it stands to where it was asked to go."""


def move(session: Session, study: Study, to: State, why: str, who: str = "node") -> None:
    """Bring the study to a state and record it. Moving to where it already is changes nothing: steps may be replayed.

    Raises TransitionError, naming both states and those allowed, when the move is not in the table.
    """
    here = State(study.state)
    if here is to:
        return
    if to not in TRANSITIONS[here]:
        allowed = ", ".join(sorted(TRANSITIONS[here]))
        raise TransitionError(f"study {study.key} is {here}; it cannot become {to} (from here: {allowed})")
    study.state = to
    study.reason = why
    study.doing, study.progress = "", 0.0
    session.add(Event(study_id=study.id, who=who, what=f"{here} → {to}", why=why))
