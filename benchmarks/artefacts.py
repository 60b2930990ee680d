"""Artefacts at four severities beside each other, to be looked at with a critical eye.

    python -m benchmarks.artefacts --anatomy ../shared/data/anatomy --picture docs/artefacts.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulator.acquisition import Acquired, ScanEffects, acquire
from simulator.artefacts import Artefact, ArtefactKind
from simulator.protocol import Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.scanner import Scanner
from simulator.study import Subject, simulate_subject

SEVERITIES = (0.0, 0.3, 0.6, 1.0)
SHOWN = (
    (Kind.T1, ArtefactKind.GHOSTING),
    (Kind.FLAIR, ArtefactKind.GHOSTING),
    (Kind.DWI, ArtefactKind.GHOSTING),
    (Kind.T1, ArtefactKind.WRAP_AROUND),
    (Kind.FLAIR, ArtefactKind.WRAP_AROUND),
    (Kind.T1, ArtefactKind.SPIKES),
    (Kind.FLAIR, ArtefactKind.SPIKES),
    (Kind.T1, ArtefactKind.NOISE),
    (Kind.FLAIR, ArtefactKind.BIAS),
    (Kind.T1, ArtefactKind.CROPPING),
)


def shown(axis: Axes, acquired: Acquired, k: int) -> None:
    """One slice of the last volume (the highest b-value), in millimetres."""
    image = list(acquired.volumes.values())[-1][k]
    di, dj, _ = acquired.plan.grid.spacing
    rows, columns = image.shape
    axis.imshow(image, cmap="gray", vmin=0, vmax=1.4, extent=(0, columns * di, rows * dj, 0))
    axis.set_xlim(columns * di / 2 - 128, columns * di / 2 + 128)
    axis.set_ylim(rows * dj / 2 + 128, rows * dj / 2 - 128)
    axis.set_axis_off()


def most_visible_slice(subject: Subject, plan: SeriesPlan, artefact: ArtefactKind) -> int:
    """The slice in the middle, or near it where only some slices have the artefact."""
    middle = plan.grid.shape[0] // 2 + (0 if plan.is_t1 else 2)
    if artefact is not ArtefactKind.SPIKES or plan.is_t1:
        return middle
    clean, spiked = (
        acquire(subject, Scanner(), (plan,), ScanEffects(artefacts=ordered))[0].volumes
        for ordered in ((), (Artefact(artefact, 1.0),))
    )
    change = sum(np.abs(spiked[w] - clean[w]).mean(axis=(1, 2)) for w in clean)
    near = slice(middle - 4, middle + 5)
    return middle - 4 + int(np.argmax(change[near]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, help="label maps of heads; without it the packaged anatomy")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=100)
    arguments = parser.parse_args()

    subject = simulate_subject(arguments.seed, arguments.anatomy)
    plans = {plan.kind: plan for plan in examination(Scanner(), stream(subject.seed, "examination"))}
    figure = Figure(figsize=(1.35 * len(SHOWN), 1.5 * len(SEVERITIES)), facecolor="black")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(SEVERITIES), len(SHOWN))
    for column, (kind, artefact) in enumerate(SHOWN):
        k = most_visible_slice(subject, plans[kind], artefact)
        for line, severity in enumerate(SEVERITIES):
            effects = ScanEffects(artefacts=(Artefact(artefact, severity),))
            [acquired] = acquire(subject, Scanner(), (plans[kind],), effects)
            shown(axes[line, column], acquired, k)
            if line == 0:
                axes[line, column].set_title(f"{kind}\n{artefact}", color="white", fontsize=8)
    for line, severity in enumerate(SEVERITIES):
        axes[line, 0].text(4, 250, f"{severity:g}", color="white", fontsize=8)
    figure.subplots_adjust(left=0.002, right=0.998, bottom=0.005, top=0.92, wspace=0.02, hspace=0.02)
    figure.set_dpi(80)
    canvas.draw()
    # Noise does not compress: 32 shades of grey are half the file and look the same.
    grey = np.asarray(canvas.buffer_rgba())[..., 0] // 8 * 8
    PIL.Image.fromarray(grey).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
