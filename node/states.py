"""The life of a study: one table of states, of what happens, and of where that leads. ``move`` keeps to it.

Every move writes an event with its reason. ``python -m node.states`` prints docs/states.md, made from the table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.orm import Session

from node.tables import Event, Study

log = logging.getLogger(__name__)


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
    PRIOR = "PRIOR"


class Trigger(StrEnum):
    """What happens to a study. Each leads to one state, wherever it is allowed."""

    ARRIVED = "an instance arrives"
    LATE = "late instances change the inputs"
    COMPLETE = "complete"
    GAVE_UP_WAITING = "not complete in time"
    FORCED = "forced by a person"
    RETRIED = "retried by a person"
    ACCEPTED = "accepted by a person"
    CONVERT = "conversion begins"
    PREPARE = "preparation begins"
    CHECK = "quality control begins"
    SYNTHESISE = "synthesis begins"
    DERIVE = "derivation begins"
    DELIVER = "delivery begins"
    DELIVERED = "delivered"
    REJECTED = "rejected by quality control"
    FAILED = "cannot go on"
    CANCELLED = "cancelled by a person"
    UNWANTED = "a rule does not want it"
    WANTED = "late instances make a rule want it"
    PRIOR = "fetched as a prior"
    PULLED = "pulled by a person"


@dataclass(frozen=True)
class Transition:
    """In state ``here``, ``on`` leads to ``there``; ``means`` says so in words."""

    here: State
    on: Trigger
    there: State
    means: str


COLLECTING = frozenset({State.RECEIVING, State.INCOMPLETE})
# In the order in which a study goes through them. A retry resumes at the step that failed, so QUEUED leads to any.
_STEPS = (
    State.CONVERTING, State.PREPARING, State.CHECKING, State.SYNTHESISING, State.DERIVING, State.DELIVERING,
)  # fmt: skip
_WORKING = (State.QUEUED, *_STEPS)
WORKING = frozenset(_WORKING)
_WAITING = (State.RECEIVING, State.INCOMPLETE)
_STOPPED = (State.REJECTED, State.FAILED, State.CANCELLED)


def _each(here: Iterable[State], on: Trigger, there: State, means: str) -> tuple[Transition, ...]:
    return tuple(Transition(state, on, there, means) for state in here)


TRANSITIONS: tuple[Transition, ...] = (
    Transition(State.INCOMPLETE, Trigger.ARRIVED, State.RECEIVING, "what was missing may be coming"),
    *_each(
        _WAITING, Trigger.COMPLETE, State.QUEUED,
        "every required role is there, no slice is missing, and nothing more is expected: a run over it is enqueued",
    ),
    Transition(
        State.RECEIVING, Trigger.GAVE_UP_WAITING, State.INCOMPLETE,
        "something required did not come within `completeness.give_up_seconds`",
    ),
    *_each(
        (*_WAITING, State.DELIVERED, *_STOPPED, State.PRIOR), Trigger.FORCED, State.QUEUED,
        "a person has it processed with what is there, complete or not",
    ),
    *_each(_WAITING, Trigger.RETRIED, State.QUEUED, "a person does not wait any longer for a study that is complete"),
    Transition(State.DELIVERED, Trigger.RETRIED, State.QUEUED, "a new run over what the study holds now"),
    Transition(State.PRIOR, Trigger.RETRIED, State.QUEUED, "a person wants a prior processed that is complete"),
    *_each(
        _STOPPED, Trigger.RETRIED, State.QUEUED,
        "from the step that failed while the inputs are the same, else a new run",
    ),
    Transition(
        State.REJECTED, Trigger.ACCEPTED, State.QUEUED, "a person takes the responsibility for the study's quality"
    ),
    *_each((State.QUEUED,), Trigger.CONVERT, State.CONVERTING, "its turn has come"),
    Transition(State.QUEUED, Trigger.PREPARE, State.PREPARING, "resumed at this step"),
    Transition(State.CONVERTING, Trigger.PREPARE, State.PREPARING, "there is one volume for each role"),
    Transition(State.QUEUED, Trigger.CHECK, State.CHECKING, "resumed at this step"),
    Transition(State.PREPARING, Trigger.CHECK, State.CHECKING, "there is the network's input"),
    Transition(State.QUEUED, Trigger.SYNTHESISE, State.SYNTHESISING, "resumed at this step"),
    Transition(State.CHECKING, Trigger.SYNTHESISE, State.SYNTHESISING, "quality control lets it pass"),
    Transition(
        State.PREPARING, Trigger.SYNTHESISE, State.SYNTHESISING, "a run that began before there was quality control"
    ),
    Transition(State.QUEUED, Trigger.DERIVE, State.DERIVING, "resumed at this step"),
    Transition(State.SYNTHESISING, Trigger.DERIVE, State.DERIVING, "there is the virtual volume"),
    Transition(State.QUEUED, Trigger.DELIVER, State.DELIVERING, "resumed at this step"),
    Transition(State.DERIVING, Trigger.DELIVER, State.DELIVERING, "there are the derived series, and their ledger"),
    Transition(
        State.DELIVERING, Trigger.DELIVERED, State.DELIVERED, "nothing is open for any destination that is configured"
    ),
    Transition(State.CHECKING, Trigger.REJECTED, State.REJECTED, "quality control finds the study unfit"),
    *_each(
        _WORKING, Trigger.LATE, State.RECEIVING,
        "the run is ended: its result would be out of date; a new one begins when the study has settled again",
    ),
    *_each(
        (State.DELIVERED, State.REJECTED, State.FAILED), Trigger.LATE, State.RECEIVING,
        "a new run begins when the study has settled again; its result will supersede an earlier one",
    ),
    *_each(_WAITING, Trigger.FAILED, State.FAILED, "it can never be processed: the reason says why"),
    *_each(_WORKING, Trigger.FAILED, State.FAILED, "a step went wrong: the reason says how, and what to do"),
    *_each(_WAITING, Trigger.CANCELLED, State.CANCELLED, "a person does not want it processed"),
    *_each(
        _WAITING, Trigger.UNWANTED, State.CANCELLED,
        "the `[[rule]]` that decides on it says `process = false`; a person may have it processed all the same",
    ),
    Transition(
        State.CANCELLED, Trigger.WANTED, State.RECEIVING,
        "only of a study that a rule had turned away: with what has come since, the rules decide otherwise",
    ),
    Transition(
        State.RECEIVING, Trigger.PRIOR, State.PRIOR,
        "the node has fetched it as a prior of another study, and nobody has asked for it otherwise: it is kept, not "
        "processed",
    ),
    Transition(
        State.PRIOR, Trigger.PULLED, State.RECEIVING, "a person fetches it for itself by `quarterdose pull`"
    ),
    *_each(_WORKING, Trigger.CANCELLED, State.CANCELLED, "a person stops the work where it is"),
    *_each(
        (State.REJECTED, State.FAILED), Trigger.CANCELLED, State.CANCELLED,
        "a person closes it; late instances do not begin a new run any more",
    ),
)  # fmt: skip

_NEXT = {(transition.here, transition.on): transition.there for transition in TRANSITIONS}
_LEADS_TO = {transition.on: transition.there for transition in TRANSITIONS}


class TransitionError(Exception):
    """What happened cannot happen to a study where it stands."""


def move(session: Session, study: Study, on: Trigger, why: str, who: str = "node") -> None:
    """Bring the study to where this leads and record it. What leads to where it already is changes nothing: steps may
    be replayed.

    Raises TransitionError, naming the state and where it may lead, when the table has no such transition.
    """
    here = State(study.state)
    if here is _LEADS_TO[on]:
        return
    if (here, on) not in _NEXT:
        allowed = ", ".join(sorted({there for (state, _), there in _NEXT.items() if state is here}))
        raise TransitionError(
            f"study {study.key} is {here}; it cannot become {_LEADS_TO[on]}: {on} (from here: {allowed})"
        )
    study.state = _NEXT[here, on]
    study.reason = why
    study.doing, study.progress = "", 0.0
    session.add(Event(study_id=study.id, who=who, what=f"{here} → {study.state}", why=why))
    # Both names: steps that know a study by its number say that.
    log.info("study %s, number %d: %s → %s: %s", study.key, study.id, here, study.state, why)


_DOCUMENT = """\
# The states of a study

Made by `python -m node.states > docs/states.md` from the table in `node/states.py`, which is what the node keeps to: a
move that is not here is refused, and each one is an event with who, when and why (`quarterdose studies show KEY`).
What each state means for you is in [operating.md](operating.md).

An arrow from a box holds for every state in it.

```mermaid
stateDiagram-v2
{diagram}
```

| from | when | to | means |
|---|---|---|---|
{table}
"""
_BOXES = {"Collecting": _WAITING, "Working": _WORKING}


def document() -> str:
    """docs/states.md: a diagram (Mermaid) and every transition with what it means."""
    rows = [f"| {one.here} | {one.on} | {one.there} | {one.means} |" for one in TRANSITIONS]
    return _DOCUMENT.format(diagram="\n".join(_diagram()), table="\n".join(rows))


def _diagram() -> Iterable[str]:
    """What holds for every state of a box is one arrow; several reasons for one move share theirs."""
    yield f"    [*] --> {State.RECEIVING}: the first instance arrives"
    for name, states in _BOXES.items():
        yield f"    state {name} {{"
        yield from (f"        {state}" for state in states)
        yield "    }"
    arrows: dict[tuple[str, str], list[str]] = {}
    for one in TRANSITIONS:
        reasons = arrows.setdefault((_drawn_from(one), one.there), [])
        if one.on not in reasons:
            reasons.append(one.on)
    yield from (f"    {here} --> {there}: {', '.join(reasons)}" for (here, there), reasons in arrows.items())


def _drawn_from(one: Transition) -> str:
    for name, states in _BOXES.items():
        if one.here in states and one.there not in states and all((state, one.on) in _NEXT for state in states):
            return name
    return one.here


if __name__ == "__main__":
    print(document(), end="")
