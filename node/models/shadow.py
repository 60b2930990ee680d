"""Shadows: how far the results of models that are only tried lie from the result that was sent.

Both are on the network's grid, in [0, 1]; measured inside the brain. The study's result is the reference, so a shadow
that is better differs as well: look at the studies with the largest differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.metrics import l2, psnr, ssim
from node.tables import ShadowResult, Study

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """``psnr`` (dB) and ``ssim`` of the shadow's image against the one that was sent; ``difference`` its mean less
    that one's, ``largest`` the 99.9th percentile of the absolute difference; ``seconds`` the shadow took."""

    psnr: float
    ssim: float
    difference: float
    largest: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """Of one shadow over all its studies, the last run of each that it was tried on: medians, the lowest PSNR, and the
    key of the study that has it."""

    studies: int
    psnr: float
    ssim: float
    difference: float
    seconds: float
    lowest_psnr: float
    farthest_study: str


def compare(shadow: FloatArray, sent: FloatArray, brain: NDArray[np.bool_], seconds: float) -> Comparison:
    """Of two images (z, y, x) of one study."""
    apart = shadow[brain].astype(np.float64) - sent[brain]
    return Comparison(
        psnr(l2(shadow, sent, brain)), ssim(shadow, sent, brain), float(apart.mean()),
        float(np.percentile(np.abs(apart), 99.9)), seconds,
    )  # fmt: skip


def record(session: Session, study: Study, shadow: str, against: str, found: Comparison) -> ShadowResult:
    """Write down what was found; the same shadow on the same run replaces it."""
    row = session.scalar(
        select(ShadowResult).where(
            ShadowResult.study_id == study.id, ShadowResult.run == study.run, ShadowResult.digest == shadow
        )
    )
    if row is None:
        row = ShadowResult(study_id=study.id, run=study.run, digest=shadow)
        session.add(row)
    row.against = against
    # Equal images have no finite PSNR, and JSON and SQL know no infinity.
    row.psnr = found.psnr if math.isfinite(found.psnr) else None
    row.ssim, row.difference, row.largest, row.seconds = found.ssim, found.difference, found.largest, found.seconds
    return row


def summarise(session: Session, digest: str) -> Summary | None:
    """What is known of a shadow; None before its first study."""
    rows = session.execute(
        select(ShadowResult, Study.key).join(Study, Study.id == ShadowResult.study_id)
        .where(ShadowResult.digest == digest).order_by(ShadowResult.run)
    ).all()  # fmt: skip
    if not rows:
        return None
    latest = {key: row for row, key in rows}
    decibels = [(math.inf if row.psnr is None else row.psnr, key) for key, row in latest.items()]
    lowest, farthest = min(decibels)
    found = list(latest.values())
    return Summary(
        len(found), median(value for value, _ in decibels), median(row.ssim for row in found),
        median(row.difference for row in found), median(row.seconds for row in found), lowest, farthest,
    )  # fmt: skip
