"""Cross-validations as tables: mean (standard deviation) over subjects, as the paper writes its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from model.calibration import calibrate
from model.crossvalidate import CrossValidation
from model.detection import SIZE_NAMES, Lesion, size_of
from model.evaluate import Figures, Summary
from model.judge import Judgement
from model.radiology import Appearance
from model.tables import Table

FIGURES = ("L2 (1e-5)", "t-L2 (1e-4)", "PSNR (dB)", "SSIM (%)")


def figures(scores: Figures) -> tuple[str, ...]:
    """The four figures in the units of the paper's Table 1."""
    return scores.l2.written(1e5, 1), scores.t_l2.written(1e4, 1), scores.psnr.written(), scores.ssim.written(100)


def scores_table(results: Sequence[CrossValidation], title: str = "How close to the full dose") -> Table:
    """The paper's four figures, over the whole grid as in the paper, and over the brain alone."""
    rows = []
    for result in results:
        for domain in ("grid", "brain"):
            row = figures(Figures.of([getattr(one, domain) for one in result.judgements]))
            rows.append((result.contender.name, "whole grid" if domain == "grid" else "brain", *row))
    return Table(title, ("method", "over", *FIGURES), tuple(rows), (_counted(results),))


def detection_table(results: Sequence[CrossValidation]) -> Table:
    """Per-lesion sensitivity and false positives per subject by size (``model.detection``)."""
    columns = ("method", *(f"seen {name}" for name in SIZE_NAMES), *(f"false/subject {name}" for name in SIZE_NAMES))
    rows = [(one.contender.name, *_seen(one.judgements), *_false(one.judgements)) for one in results]
    if results:
        itself = tuple(_share([x.in_full_dose for x in group]) for group in _lesions(results[0].judgements))
        rows.append(("the full dose itself", *itself, "–", "–", "–"))
    return Table("Lesions seen, and seen where there are none", columns, tuple(rows), (
        "Definitions in model/detection.py: a lesion is seen where enhancing components cover a quarter of it; false "
        "is what touches neither a lesion nor anything that enhances in the full dose.",
    ))  # fmt: skip


def appearance_table(results: Sequence[CrossValidation]) -> Table:
    """CNR, LBR, CEP and enhancing volume, virtual beside full dose (``model.radiology``)."""
    columns = ("method", "CNR", "LBR", "CEP (%)", "volume difference (ml)", "limits of agreement (ml)", "Dice")
    rows = []
    for result in results:
        looks = [one.virtual for one in result.judgements]
        sizes = [one.volumes for one in result.judgements]
        off = [one.virtual_ml - one.full_dose_ml for one in sizes]
        rows.append((result.contender.name, *_looks(looks), *_agreement(off), _written([s.dice for s in sizes])))
    if results:
        looks = [one.full_dose for one in results[0].judgements]
        rows.append(("the full dose itself", *_looks(looks), "0", "–", "1"))
    return Table("How lesions look, and how large they are", columns, tuple(rows), (
        "Definitions in model/radiology.py; volume difference is virtual minus full dose, limits mean ± 1.96 sd.",
    ))  # fmt: skip


def calibration_table(results: Sequence[CrossValidation]) -> Table:
    """Each fold's uncertainty scaled by what the other folds say (``model.calibration``)."""
    rows = []
    for result in results:
        by_fold = [[one.reliability for one in fold if one.reliability is not None] for fold in result.folds]
        if not all(by_fold) or len(by_fold) < 2:
            continue
        each = [
            calibrate([one for other, those in enumerate(by_fold) if other != place for one in those], judged)
            for place, judged in enumerate(by_fold)
        ]
        named: tuple[Callable[..., float], ...] = (
            lambda c: c.factor, lambda c: 100 * c.within_one, lambda c: 100 * c.within_two, lambda c: c.ence,
        )  # fmt: skip
        rows.append((result.contender.name, *(_written([value(one) for one in each]) for value in named)))
    return Table(
        "Whether the uncertainty is right",
        ("method", "factor", "within 1 sd (%)", "within 2 sd (%)", "ENCE"),
        tuple(rows),
        ("Mean (sd) over folds; 68.3 and 95.4 % would be right, and an ENCE of 0. Definitions: model/calibration.py.",),
    )


def subjects_table(results: Sequence[CrossValidation]) -> Table:
    """Every number of every subject, so that each mean can be traced."""
    columns = ("method", "fold", "subject", *(f"{domain} {name}" for domain in ("grid", "brain")
               for name in ("l2", "t_l2", "psnr", "ssim")), "lesions", "seen", "false", "cnr", "lbr", "cep",
               "virtual_ml", "full_dose_ml", "dice")  # fmt: skip
    rows = []
    for result in results:
        for number, fold in enumerate(result.folds, start=1):
            for one in fold:
                values = [getattr(scores, name) for scores in (one.grid, one.brain)
                          for name in ("l2", "t_l2", "psnr", "ssim")]  # fmt: skip
                found = one.detection
                counts = ("", "", "") if found is None else (
                    str(len(found.lesions)), str(sum(lesion.in_virtual for lesion in found.lesions)),
                    str(len(found.false_positives_mm)),
                )  # fmt: skip
                rest = (one.virtual.cnr, one.virtual.lbr, one.virtual.cep, one.volumes.virtual_ml,
                        one.volumes.full_dose_ml, one.volumes.dice)  # fmt: skip
                rows.append((result.contender.name, str(number), one.subject, *(f"{v:.6g}" for v in values), *counts,
                             *(f"{v:.6g}" for v in rest)))  # fmt: skip
    return Table("Every subject", columns, tuple(rows))


def _counted(results: Sequence[CrossValidation]) -> str:
    subjects = len(results[0].judgements) if results else 0
    folds = len(results[0].folds) if results else 0
    return f"Mean (sd) over {subjects} subjects, each judged by the one of {folds} folds that had not seen its head."


def _lesions(judgements: Sequence[Judgement]) -> list[list[Lesion]]:
    groups: list[list[Lesion]] = [[] for _ in SIZE_NAMES]
    for one in judgements:
        for lesion in one.detection.lesions if one.detection else ():
            groups[size_of(lesion.diameter_mm)].append(lesion)
    return groups


def _seen(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    return tuple(_share([lesion.in_virtual for lesion in group]) for group in _lesions(judgements))


def _share(seen: Sequence[bool]) -> str:
    return f"{100 * sum(seen) / len(seen):.0f} % ({sum(seen)}/{len(seen)})" if seen else "–"


def _false(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    judged = [one.detection for one in judgements if one.detection is not None]
    if not judged:
        return ("–",) * len(SIZE_NAMES)
    sizes = [size_of(diameter) for one in judged for diameter in one.false_positives_mm]
    return tuple(f"{sizes.count(place) / len(judged):.2f}" for place in range(len(SIZE_NAMES)))


def _looks(looks: Sequence[Appearance]) -> tuple[str, ...]:
    return tuple(_written([getattr(one, name) for one in looks]) for name in ("cnr", "lbr", "cep"))


def _agreement(off: Sequence[float]) -> tuple[str, str]:
    known = [value for value in off if not math.isnan(value)]
    if len(known) < 2:
        return "–", "–"
    mean, sd = float(np.mean(known)), float(np.std(known, ddof=1))
    return f"{mean:+.2f}", f"{mean - 1.96 * sd:+.2f} … {mean + 1.96 * sd:+.2f}"


def _written(values: Sequence[float]) -> str:
    return Summary.of(values).written()
