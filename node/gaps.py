"""Gaps in a row of slice positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

# How far from a whole number of slices a gap may be and still count as that number: rounding, not geometry.
_NEAR = 0.2


@dataclass(frozen=True)
class Gap:
    """``missing`` slices between the places ``before`` and ``after`` (mm); ``first`` is the number of the first one.

    Numbers count from 1 at the lowest position, missing slices included; ``total`` is how many there should be.
    """

    before: float
    after: float
    missing: int
    first: int
    total: int


def gaps(places: Sequence[float], declared_spacing: float | None = None) -> tuple[Gap, ...]:
    """The gaps in ascending ``places`` (mm); at least two places, or there is none to see.

    The spacing is the smallest step where all steps are whole multiples of it, or the declared Spacing Between Slices
    (0018,0088) where the usual step is a whole multiple of that; else the usual step.
    """
    steps = [after - before for before, after in pairwise(places)]
    if not steps:
        return ()
    spacing = _spacing(steps, declared_spacing)
    missing = [max(round(step / spacing) - 1, 0) for step in steps]
    total = len(places) + sum(missing)
    found: list[Gap] = []
    number = 1
    for (before, after), lost in zip(pairwise(places), missing, strict=True):
        if lost:
            found.append(Gap(before, after, lost, number + 1, total))
        number += 1 + lost
    return tuple(found)


def slice_number(places: Sequence[float], place: float) -> int:
    """Which slice of ``places`` lies at ``place``, from 1."""
    return min(range(len(places)), key=lambda index: abs(places[index] - place)) + 1


def _spacing(steps: Sequence[float], declared: float | None) -> float:
    usual, smallest = median(steps), min(steps)
    if declared and _multiple(usual, declared):
        return declared
    return smallest if all(_multiple(step, smallest) for step in steps) else usual


def _multiple(step: float, unit: float) -> bool:
    times = step / unit
    return round(times) >= 1 and abs(times - round(times)) <= _NEAR
