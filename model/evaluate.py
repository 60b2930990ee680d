"""Judging a method on a cohort: the paper's four figures, mean and standard deviation over subjects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.cohort import Cohort, Mask
from model.metrics import Scores, score

FloatArray = NDArray[np.float32]
Method = Callable[[FloatArray, Mask], FloatArray]
"""From the inputs (M, z, y, x) and the brain mask to the virtual full dose (z, y, x)."""


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (divided by n, as NumPy's) over the subjects for whom the figure exists."""

    mean: float | None
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        known = [value for value in values if not math.isnan(value)]
        return cls(float(np.mean(known)), float(np.std(known))) if known else cls(None, None)

    def written(self, factor: float = 1.0, digits: int = 2) -> str:
        """``mean (sd)`` times ``factor``, or a dash."""
        if self.mean is None or self.sd is None:
            return "–"
        return f"{self.mean * factor:.{digits}f} ({self.sd * factor:.{digits}f})"


@dataclass(frozen=True)
class Figures:
    """The four figures over one domain (``model.metrics``); PSNR in dB."""

    l2: Summary
    t_l2: Summary
    psnr: Summary
    ssim: Summary

    @classmethod
    def of(cls, scores: Sequence[Scores]) -> Figures:
        return cls(
            Summary.of([one.l2 for one in scores]),
            Summary.of([one.t_l2 for one in scores]),
            Summary.of([one.psnr for one in scores]),
            Summary.of([one.ssim for one in scores]),
        )


@dataclass(frozen=True)
class Result:
    """How ``method`` did on ``subjects`` subjects, over the whole grid (as the paper) and over the brain alone."""

    method: str
    subjects: int
    grid: Figures
    brain: Figures

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Result:
        """The result that ``dataclasses.asdict`` wrote."""
        grid, brain = (
            Figures(**{name: Summary(**summary) for name, summary in content[domain].items()})
            for domain in ("grid", "brain")
        )
        return cls(content["method"], content["subjects"], grid, brain)


def evaluate(
    name: str, method: Method, cohort: Cohort, progress: Callable[[int, int], None] | None = None
) -> Result:
    """Run ``method`` on every subject of ``cohort``; ``progress`` is told (done, all) after each. What a method says
    outside the brain is not judged: delivered images are zero there."""
    over_grid, over_brain = [], []
    for done, record in enumerate(cohort.subjects, start=1):
        subject = cohort.read(record)
        brain, lesion = np.asarray(subject.brain), np.asarray(subject.lesion)
        target = subject.target.astype(np.float32)
        virtual = np.where(brain, method(subject.input.astype(np.float32), brain), np.float32(0))
        over_grid.append(score(virtual, target, lesion))
        over_brain.append(score(virtual, target, lesion, brain))
        if progress is not None:
            progress(done, len(cohort.subjects))
    return Result(name, len(cohort.subjects), Figures.of(over_grid), Figures.of(over_brain))
