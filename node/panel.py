"""One picture of a study, like the paper's Figure 3: axial rows; inputs, virtual and full dose side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from preprocessing.volume import FloatArray

_ROWS = 3
_APART_MM = 14  # rows closer than this would show the same thing twice
_INK, _PAPER, _OUTLINE = "white", "black", "#39ff14"


@dataclass(frozen=True)
class Column:
    """One image on the network grid, (160, 192, 160), and the values drawn as black and as white."""

    title: str
    image: FloatArray
    black: float
    white: float


def draw_panel(path: Path, columns: Sequence[Column], brain: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> None:
    """Write a PNG of the ``columns`` in three axial rows, and the last once more with the lesions, if any, outlined.

    ``brain`` and ``lesion`` are bool (160, 192, 160). Seen from the feet, as radiologists do: the patient's left is
    at the right of the picture.
    """
    last = [Column("lesions", columns[-1].image, columns[-1].black, columns[-1].white)] if lesion.any() else []
    rows = _rows(brain, lesion)
    top, bottom, left, right = _box(brain)
    shape = (bottom - top) / (right - left)
    figure = Figure(figsize=(1.9 * (len(columns) + len(last)), 1.9 * shape * len(rows) + 0.3), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns) + len(last), squeeze=False)
    for line, k in enumerate(rows):
        for place, column in enumerate([*columns, *last]):
            axis = axes[line, place]
            picture = column.image[k, top:bottom, left:right]
            axis.imshow(picture, cmap="gray", vmin=column.black, vmax=column.white, interpolation="bilinear")
            axis.set_axis_off()
            if line == 0:
                axis.set_title(column.title, color=_INK, fontsize=9)
        shown = lesion[k, top:bottom, left:right]
        if shown.any():
            axes[line, -1].contour(shown, levels=[0.5], colors=[_OUTLINE], linewidths=0.8)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.95, wspace=0.02, hspace=0.02)
    figure.savefig(path, dpi=110, facecolor=_PAPER)


def _rows(brain: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> list[int]:
    """The axial slices to show, from the top of the head down: where most lesion is, else spread over the brain."""
    area = lesion.sum(axis=(1, 2)).astype(float)
    inside = np.flatnonzero(brain.any(axis=(1, 2)))
    chosen: list[int] = []
    while len(chosen) < _ROWS and area.max() > 0:
        chosen.append(int(area.argmax()))
        area[max(0, chosen[-1] - _APART_MM) : chosen[-1] + _APART_MM + 1] = 0
    for share in (0.6, 0.45, 0.75):
        level = int(inside[int(share * (len(inside) - 1))])
        if len(chosen) < _ROWS and all(abs(level - other) >= _APART_MM for other in chosen):
            chosen.append(level)
    return sorted(chosen, reverse=True)


def _box(brain: NDArray[np.bool_], margin: int = 6) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the brain in the axial plane."""
    j = np.flatnonzero(brain.any(axis=(0, 2)))
    i = np.flatnonzero(brain.any(axis=(0, 1)))
    return (
        max(0, j[0] - margin), min(brain.shape[1], j[-1] + margin),
        max(0, i[0] - margin), min(brain.shape[2], i[-1] + margin),
    )  # fmt: skip
