"""Four simulated patients beside each other, to be looked at with a critical eye.

    python -m benchmarks.contact_sheet --anatomy ../shared/data/anatomy --picture docs/simulated_patients.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulator.lesions import Condition
from simulator.study import NetworkGridSubject, SubjectSettings, network_grid, simulate_subject

CONDITIONS = (Condition.METASTASES, Condition.GLIOBLASTOMA, Condition.RESECTED, Condition.MENINGIOMA)
TITLES = ("T1", "T2-FLAIR", "ADC", "low dose", "full dose", "enhancing tissue")


def widest_slice(subject: NetworkGridSubject) -> int:
    """The axial slice with most enhancing tissue."""
    return int(subject.lesion.sum(axis=(1, 2)).argmax())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, help="label maps of heads; without it the packaged anatomy")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=100)
    arguments = parser.parse_args()

    figure = Figure(figsize=(2.0 * len(TITLES), 2.35 * len(CONDITIONS)), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(CONDITIONS), len(TITLES))
    for line, condition in enumerate(CONDITIONS):
        settings = SubjectSettings(condition=condition)
        subject = network_grid(simulate_subject(arguments.seed + line, arguments.anatomy, settings))
        k = widest_slice(subject)
        bright = float(np.percentile(subject.full_dose[subject.brain], 99.7))
        images = (subject.t1, subject.flair, subject.adc, subject.low_dose, subject.full_dose, subject.lesion)
        whites = (None, None, 3e-3, bright, bright, 1)
        for axis, title, image, white in zip(axes[line], TITLES, images, whites, strict=True):
            top = white or float(np.percentile(image[subject.brain], 99.7))
            axis.imshow(image[k], cmap="gray", vmin=0, vmax=top)
            axis.set_axis_off()
            if line == 0:
                axis.set_title(title, color="white", fontsize=9)
        print(f"{condition}: {subject.head}, {subject.field_tesla:g} T")
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.96, wspace=0.02, hspace=0.02)
    figure.savefig(arguments.picture, dpi=90, facecolor="black")


if __name__ == "__main__":
    main()
