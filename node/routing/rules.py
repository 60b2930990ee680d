"""The ``[[rule]]`` tables of ``config.toml``: conditions that must all hold, and what follows for the study.

Conditions are data, never code. The patterns are regular expressions, found anywhere in the value, upper and lower case
alike, as those of ``[roles] override``; a range is ``[from, to]``, both ends included.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from node.roles.rules import Pattern, Range, ordered
from preprocessing.role import Role


class Priority(StrEnum):
    """How urgent a study is, the most urgent first."""

    STAT = "stat"
    HIGH = "high"
    ROUTINE = "routine"
    LOW = "low"


def _some_time(span: tuple[str, str]) -> tuple[str, str]:
    if span[0] == span[1]:
        raise ValueError(f'from {span[0]} to {span[1]} is no time at all; leave time_of_day out for "at any time"')
    return span


def _clock(text: str) -> str:
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) is None:
        raise ValueError("should be a time of day such as 07:00 or 19:30, up to 23:59")
    return text


def _label(text: str) -> str:
    if re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,64}", text) is None:
        raise ValueError("should be 1 to 64 characters, none of them a control character")
    return text


Clock = Annotated[str, AfterValidator(_clock)]
Years = Annotated[int, Field(ge=0, le=150)]


class Rule(BaseModel):
    """One rule. ``CONDITIONS`` must all hold where they are given; the other keys say what follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_label)]

    ae_title: Pattern | None = None  # the AE title that sent a series
    modality: Pattern | None = None
    study_description: Pattern | None = None
    series_description: Pattern | None = None
    protocol_name: Pattern | None = None
    body_part: Pattern | None = None
    manufacturer: Pattern | None = None
    model_name: Pattern | None = None
    station_name: Pattern | None = None
    roles: tuple[Role, ...] | None = Field(default=None, min_length=1)  # all of them are there
    dose: Range | None = None  # mmol/kg, of the low-dose series
    age: Annotated[tuple[Years, Years], AfterValidator(ordered)] | None = None  # completed years
    field_strength: Range | None = None  # T
    time_of_day: Annotated[tuple[Clock, Clock], AfterValidator(_some_time)] | None = None  # from, and before

    process: bool = True
    reason: str = ""
    model: str = ""  # a folder with weights; empty: as [model] says
    destinations: tuple[str, ...] | None = Field(default=None, min_length=1)  # names; left out: all of them
    # "requested": what Requested Procedure Priority (0040,1003) says, routine where it says nothing
    priority: Literal["stat", "high", "routine", "low", "requested"] = "routine"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Rule:
        if self.process:
            if self.reason:
                raise ValueError("reason says why a study is not processed; leave it out, or set process = false")
            return self
        if not self.reason.strip():
            raise ValueError('process = false needs a reason, which the study shows: reason = "..."')
        idle = sorted({"model", "destinations", "priority"} & self.model_fields_set)
        if idle:
            raise ValueError(f"process = false leaves {', '.join(idle)} without a meaning; leave it out")
        return self

    @property
    def conditions(self) -> dict[str, object]:
        """The conditions that are given, by key, in the order of ``CONDITIONS``."""
        return {key: value for key in CONDITIONS if (value := getattr(self, key)) is not None}


FOLLOWS = ("process", "reason", "model", "destinations", "priority")
CONDITIONS = tuple(key for key in Rule.model_fields if key not in ("name", *FOLLOWS))


def check_rules(rules: tuple[Rule, ...], destinations: set[str]) -> tuple[Rule, ...]:
    """The rules of one configuration, which must fit together. Raises ValueError naming the rule and the remedy."""
    names = [rule.name for rule in rules]
    for rule in rules:
        if names.count(rule.name) > 1:
            raise ValueError(f'two rules are called "{rule.name}"; each needs its own name')
        unknown = sorted(set(rule.destinations or ()) - destinations)
        if unknown:
            there = ", ".join(sorted(destinations))
            raise ValueError(f'rule "{rule.name}": no [[destination]] is called {", ".join(unknown)} (there: {there})')
    for rule in rules[:-1]:
        if not rule.conditions:
            raise ValueError(
                f'rule "{rule.name}" has no condition, so no rule after it is ever reached; give it one, or put it last'
            )
    if rules and rules[-1].conditions:
        raise ValueError(
            f'the last rule, "{rules[-1].name}", has conditions, so it is not said what becomes of a study that fits '
            'none; add a last [[rule]] without conditions, for example name = "everything else"'
        )
    return rules
