"""Differences between methods, subject by subject: what is more than noise, and what is not.

Subjects differ more than methods do, so two means with their standard deviations hide a difference that nearly every
subject shows. Here each method is taken from the first one within each subject. The 95 % interval says what another
sample of heads or patients could show: subjects of one head (or patient) go the same way together, so the variance is
that between heads (cluster-robust: Liang & Zeger, Biometrika 1986; a factor of G/(G-1) for G heads, Student's t with
G-1 degrees of freedom). With one subject of each head it is the paired t-test. What another training of the same
network would show is not in it: train again with ``--set seed=1`` to see that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from model.crossvalidate import CrossValidation
from model.report import FIGURES
from model.tables import Table

MEASURES = (("l2", 1e5, 1), ("t_l2", 1e4, 1), ("psnr", 1.0, 2), ("ssim", 100.0, 2))
"""Name in ``model.metrics.Scores``, factor to the units of Table 1, digits."""
FEWEST = 3
"""Heads below which no interval is given."""


@dataclass(frozen=True)
class Difference:
    """Mean over the subjects of what one method has more than the other, and its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float], heads: Sequence[int]) -> Difference | None:
        """Of two methods' figures of the same subjects, NaN where one has none; subjects of one head bear its number.
        None for fewer than three heads."""
        each = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
        known = np.isfinite(each)
        each, (numbers, head_of) = each[known], np.unique(np.asarray(heads)[known], return_inverse=True)
        count = numbers.size
        if count < FEWEST:
            return None
        mean = float(each.mean())
        together = np.bincount(head_of, weights=each - mean)
        error = math.sqrt(count / (count - 1) * float(np.square(together).sum())) / each.size
        half = float(student.ppf(0.975, count - 1)) * error
        return cls(mean, mean - half, mean + half)

    @property
    def is_noise(self) -> bool:
        """Whether no difference at all is among what the heads allow."""
        return self.low <= 0 <= self.high

    def written(self, factor: float, digits: int) -> str:
        """``mean [low, high]``, called noise where it is."""
        mean, low, high = (f"{value * factor:+.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{' noise' if self.is_noise else ''}"


def paired_table(results: Sequence[CrossValidation], groups: Sequence[Collection[str]]) -> Table:
    """Every method against the first, over the whole grid; ``groups``: names of subjects of one head or patient
    (``model.folds.groups_of``). Raises ValueError where the methods' subjects differ."""
    first, *others = results
    head_of = {name: number for number, names in enumerate(groups) for name in names}
    heads = [head_of[one.subject] for one in first.judgements]
    rows = []
    for result in others:
        if [one.subject for one in result.judgements] != [one.subject for one in first.judgements]:
            raise ValueError(f"{result.contender.name} and {first.contender.name} were judged on different subjects")
        cells = []
        for name, factor, digits in MEASURES:
            ours, theirs = ([getattr(one.grid, name) for one in those.judgements] for those in (result, first))
            found = Difference.of(ours, theirs, heads)
            cells.append("–" if found is None else found.written(factor, digits))
        rows.append((result.contender.name, *cells))
    return Table(f"Against {first.contender.name}, subject by subject", ("method", *FIGURES), tuple(rows), (
        f"Mean difference over {len(heads)} subjects and its 95 % interval over their {len(set(heads))} heads or "
        "patients (model/paired.py); noise: the interval holds zero. "
        "L2 and t-L2 are better below zero, PSNR and SSIM above.",
    ))  # fmt: skip
