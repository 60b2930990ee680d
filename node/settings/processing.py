"""From a study's series to its result: [completeness], [work], [model], [derived]."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from node.settings.values import Seconds, Table
from preprocessing.role import Role

REQUIRABLE = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)


class CompletenessSettings(Table):
    """[completeness]: when a study may be processed."""

    required: tuple[Role, ...]
    optional: tuple[Role, ...]
    quiet_seconds: Seconds
    give_up_seconds: Seconds
    on_association_close: bool
    late_instances: Literal["process", "note"]
    procedure_steps: bool

    @field_validator("required", "optional")
    @classmethod
    def _inputs(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        for role in roles:
            if role not in REQUIRABLE:
                raise ValueError(f"{role!s} cannot be waited for; choose among {', '.join(REQUIRABLE)}")
        return roles


class WorkSettings(Table):
    """[work]: the numeric work of a study."""

    threads: int = Field(ge=1, le=256)
    recovery_attempts: int = Field(ge=1, le=100)
    device: Literal["auto", "cpu", "cuda"]
    preparation: Literal["fast", "reference"]
    brain_extraction: Literal["fast", "accurate"]


class ModelSettings(Table):
    """[model]: the weights. An empty folder means those that ship with the product."""

    folder: str


Kind = Literal["enhanced_mr", "secondary_capture"]


class DerivedSettings(Table):
    """[derived]: what the node makes of the result."""

    kinds: tuple[Kind, ...] = Field(min_length=1)
