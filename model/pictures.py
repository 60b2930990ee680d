"""Pictures of subjects: what a training shows early on, and the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import label

from model.cohort import Cohort, Mask
from model.crossvalidate import Plan, judged_folder
from model.folds import folds
from model.judge import Judgement
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]
TITLES = {Role.T1: "T1", Role.FLAIR: "T2-FLAIR", Role.ADC: "ADC", Role.LOW_DOSE: "low-dose T1ce"}
FULL_DOSE = "full-dose T1ce"
_SEEN, _MISSED = "#39ff14", "#ff3030"


@dataclass(frozen=True)
class Row:
    """One subject: titled images (z, y, x) in [0, 1], and lesions (z, y, x) to outline in colours on the last one."""

    images: dict[str, FloatArray]
    brain: Mask
    outlines: tuple[tuple[Mask, str], ...] = ()


def draw(path: Path, rows: Sequence[Row]) -> None:
    """A PNG with one line for each row, all at the axial slice with most lesion, or the middle of the brain. Seen from
    the feet: the patient's left is at the right. T1-weighted images of a row share one window."""
    columns = list(dict.fromkeys(title for row in rows for title in row.images))
    figure = Figure(figsize=(1.8 * len(columns), 2.1 * len(rows)), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for number, (line, row) in enumerate(zip(axes, rows, strict=True)):
        level, box = _slice(row), _box(row.brain)
        for axis, title in zip(line, columns, strict=True):
            axis.set_axis_off()
            if title not in row.images:
                continue
            image = row.images[title]
            own = title in (TITLES[Role.FLAIR], TITLES[Role.ADC])
            black, white = _window(row, image if own else None)
            axis.imshow(image[level][box], cmap="gray", vmin=black, vmax=white)
            if number == 0:
                axis.set_title(title, color="white", fontsize=8)
            if title == columns[-1]:
                for mask, colour in row.outlines:
                    if mask[level].any():
                        axis.contour(mask[level][box], levels=[0.5], colors=[colour], linewidths=0.8)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=1 - 0.1 / len(rows), wspace=0.02, hspace=0.02)
    figure.savefig(path, dpi=110, facecolor="black")


def telling(cohort: Cohort) -> tuple[str, ...]:
    """The subjects of Figure 3, one of each that there is: most lesions, largest lesion, none."""
    counts: dict[str, tuple[int, int]] = {}
    for record in cohort.subjects:
        lesion = np.asarray(cohort.read(record).lesion)
        counts[record.name] = (int(label(lesion, np.ones((3, 3, 3)))[1]), int(lesion.sum()))
    chosen = [max(counts, key=lambda name: counts[name])]
    largest = max(counts, key=lambda name: counts[name][1] / max(counts[name][0], 1))
    none = next((name for name, (count, _) in counts.items() if count == 0), chosen[0])
    return tuple(dict.fromkeys([*chosen, largest, none]))


def figure_3(path: Path, plan: Plan, runs: Sequence[Path], names: Sequence[str]) -> None:
    """The paper's Figure 3 for subjects whose virtual images were kept (``Plan.drawn``): inputs, virtual and full dose,
    lesions that the virtual image shows outlined in green, those it misses in red."""
    rows = []
    for fold, run in zip(folds(plan.cohort, plan.folds, plan.seed), runs, strict=True):
        whole = fold.test.whole
        for record in whole.subjects:
            if record.name not in names:
                continue
            subject = whole.read(record)
            place = judged_folder(run, fold) / record.name
            virtual = np.load(place.with_suffix(".npy"), allow_pickle=False).astype(np.float32)
            images = {
                TITLES[role]: subject.input[whole.stored_roles.index(role)].astype(np.float32)
                for role in TITLES if role in whole.stored_roles
            }  # fmt: skip
            full_dose = subject.target.astype(np.float32)
            images |= {"virtual T1ce": virtual, FULL_DOSE: full_dose, "lesions": full_dose}
            outlines = _outlines(np.asarray(subject.lesion), Judgement.read(Path(f"{place}.json")))
            rows.append((list(names).index(record.name), Row(images, np.asarray(subject.brain), outlines)))
    draw(path, [row for _, row in sorted(rows, key=lambda pair: pair[0])])


def _outlines(lesion: Mask, judgement: Judgement) -> tuple[tuple[Mask, str], ...]:
    if judgement.detection is None:
        return ((lesion, _SEEN),) if lesion.any() else ()
    numbered, _ = label(lesion, np.ones((3, 3, 3)))
    return tuple(
        (numbered == number, _SEEN if one.in_virtual else _MISSED)
        for number, one in enumerate(judgement.detection.lesions, start=1)
    )


def _slice(row: Row) -> int:
    area = sum(mask.sum(axis=(1, 2)) for mask, _ in row.outlines) if row.outlines else row.brain.sum(axis=(1, 2))
    return int(np.argmax(area))


def _box(brain: Mask) -> tuple[slice, slice]:
    """The brain in the axial plane."""
    y, x = (np.flatnonzero(brain.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def _window(row: Row, own: FloatArray | None) -> tuple[float, float]:
    reference = own if own is not None else list(row.images.values())[-1]
    low, high = np.percentile(reference[row.brain], [0.5, 99.8])
    return float(low), float(max(high, low + 1e-6))
