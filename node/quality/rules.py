"""[quality]: the limits that decide whether a study is synthesised."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from node.quality.headers import HEADER_MEASURES
from preprocessing.quality.measure import MEASURES
from preprocessing.role import Role

ALL_MEASURES = {**MEASURES, **HEADER_MEASURES}


class Limits(BaseModel):
    """Where a measure begins to be a warning and where a reason to reject; None: nowhere. ``unknown``: what it is when
    it cannot be measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warn_below: float | None = None
    reject_below: float | None = None
    warn_above: float | None = None
    reject_above: float | None = None
    unknown: Literal["accept", "warn", "reject"] = "accept"

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        row = [self.reject_below, self.warn_below, self.warn_above, self.reject_above]
        given = [limit for limit in row if limit is not None]
        if given != sorted(given):
            raise ValueError("limits must rise in the order reject_below, warn_below, warn_above, reject_above")
        return self


class QualityRules(BaseModel):
    """[quality]. ``limits`` are by measure, or by measure and role as in "coverage.flair", which goes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: dict[str, Limits]

    @field_validator("limits")
    @classmethod
    def _every_measure(cls, limits: dict[str, Limits]) -> dict[str, Limits]:
        for key in limits:
            name, _, role = key.partition(".")
            if name not in ALL_MEASURES:
                raise ValueError(f"{name!r} is no measure; there are {', '.join(sorted(ALL_MEASURES))}")
            if role and role not in [str(one) for one in Role]:
                raise ValueError(f"{key!r}: {role!r} is no role; there are {', '.join(Role)}")
        lacking = sorted(ALL_MEASURES.keys() - limits.keys())
        if lacking:
            raise ValueError(f"no limits for {', '.join(lacking)}; the shipped config.toml has them all")
        return limits

    def of(self, name: str, role: Role | None) -> Limits:
        """The limits of one measure of one series."""
        return self.limits.get(f"{name}.{role}", self.limits[name])
