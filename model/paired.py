"""Differences between methods, subject by subject: what is more than noise, and what is not.

Subjects differ more than methods do, so two means with their standard deviations hide a difference that nearly every
subject shows. Here each method is taken from the first one within each subject; the interval is Student's, 95 %, over
the subjects. It says what another sample of subjects could show, if each says something of its own: those that were
simulated on one head say less, and the interval is too narrow for them. What another training of the same network would
show is not in it: train again with ``--set seed=1`` to see that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from model.crossvalidate import CrossValidation
from model.report import FIGURES
from model.tables import Table

MEASURES = (("l2", 1e5, 1), ("t_l2", 1e4, 1), ("psnr", 1.0, 2), ("ssim", 100.0, 2))
"""Name in ``model.metrics.Scores``, factor to the units of Table 1, digits."""
FEWEST = 3
"""Subjects below which no interval is given."""


@dataclass(frozen=True)
class Difference:
    """Mean over ``subjects`` of what one method has more than the other, and its 95 % interval."""

    mean: float
    low: float
    high: float
    subjects: int

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Difference | None:
        """Of two methods' figures of the same subjects, NaN where one has none; None for fewer than three."""
        each = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
        each = each[np.isfinite(each)]
        if each.size < FEWEST:
            return None
        mean, half = float(each.mean()), float(student.ppf(0.975, each.size - 1) * each.std(ddof=1))
        return cls(mean, mean - half / math.sqrt(each.size), mean + half / math.sqrt(each.size), int(each.size))

    @property
    def is_noise(self) -> bool:
        """Whether no difference at all is among what the subjects allow."""
        return self.low <= 0 <= self.high

    def written(self, factor: float, digits: int) -> str:
        """``mean [low, high]``, called noise where it is."""
        mean, low, high = (f"{value * factor:+.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{' noise' if self.is_noise else ''}"


def paired_table(results: Sequence[CrossValidation]) -> Table:
    """Every method against the first, over the whole grid. Raises ValueError where their subjects differ."""
    first, *others = results
    rows = []
    for result in others:
        if [one.subject for one in result.judgements] != [one.subject for one in first.judgements]:
            raise ValueError(f"{result.contender.name} and {first.contender.name} were judged on different subjects")
        cells = []
        for name, factor, digits in MEASURES:
            ours, theirs = ([getattr(one.grid, name) for one in those.judgements] for those in (result, first))
            found = Difference.of(ours, theirs)
            cells.append("–" if found is None else found.written(factor, digits))
        rows.append((result.contender.name, *cells))
    return Table(f"Against {first.contender.name}, subject by subject", ("method", *FIGURES), tuple(rows), (
        "Mean difference and its 95 % interval over the subjects (model/paired.py); noise: the interval holds zero. "
        "L2 and t-L2 are better below zero, PSNR and SSIM above.",
    ))  # fmt: skip
