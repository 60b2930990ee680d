"""The shipped weights on a real patient: how good, against doing nothing and against answers without learning.

    python -m benchmarks.real_patient --patient ../shared/data/real/glioma_tcga_fg_6692 --picture docs/real_patient.png

The patient's T1, FLAIR and T1ce are wrapped in DICOM, the low dose is made as T1 + 0.3 (T1ce − T1) with Rician noise
(``simulator.nifti``), and everything then goes the node's way: convert, prepare, synthesise. Compared on the network's
grid inside the brain, as the paper does, with the acquired T1ce after N4, by its own brain statistics.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from model.metrics import l2, psnr, ssim
from model.rivals import extrapolated
from model.store import Model
from model.synthesise import synthesise
from node.models.registry import choose, shipped_models
from node.panel import Column, draw_panel
from preprocessing.convert import convert_series
from preprocessing.prepare import PreparationSettings, prepare
from preprocessing.study import PreparedStudy
from preprocessing.volume import Role
from simulator.nifti import wrap_nifti


def prepared_patient(folder: Path) -> PreparedStudy:
    """The patient's study as the node would prepare it, with the acquired T1ce as its target."""
    with tempfile.TemporaryDirectory() as out:
        study = wrap_nifti(*(folder / f"{name}.nii.gz" for name in ("t1", "flair", "t1ce")), Path(out))
        series = {
            Role.T1: study.t1, Role.FLAIR: study.flair, Role.LOW_DOSE: study.low_dose, Role.FULL_DOSE: study.full_dose,
        }  # fmt: skip
        volumes = {role: convert_series(sorted(place.iterdir())).volumes[0] for role, place in series.items()}
    return prepare(volumes, PreparationSettings(), lambda doing, share: print(f"{share:4.0%} {doing}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patient", type=Path, required=True, help="a folder with t1, flair and t1ce as .nii.gz")
    parser.add_argument("--picture", type=Path, help="where to draw the panel")
    arguments = parser.parse_args()

    study = prepared_patient(arguments.patient)
    full, brain = study.target, study.brain
    assert full is not None
    inputs = dict(zip(study.channels, study.input, strict=True))
    t1, low = inputs[Role.T1], inputs[Role.LOW_DOSE]
    model = Model.load(choose(shipped_models(), study.channels).folder)
    chosen = study.input[[study.channels.index(role) for role in model.roles]]
    virtual = synthesise(model, chosen, brain).virtual
    k = float(((full - t1) * (low - t1))[brain].sum() / np.square(low - t1)[brain].sum())

    print(f"{'':40} PSNR (dB)  SSIM")
    for name, image in (
        (f"virtual, {model.card.name}", virtual),
        ("low dose as it is", low),
        (f"T1 + {k:.2f} (low dose - T1), k fitted here", extrapolated(study.input, study.channels, k)),
        ("T1 + 4 (low dose - T1)", extrapolated(study.input, study.channels, 4.0)),
    ):
        print(f"{name:40} {psnr(l2(image, full, brain)):9.2f}  {ssim(image, full, brain):.3f}")
    if arguments.picture:
        white = float(np.percentile(full[brain], 99.7))
        black = float(np.percentile(full[brain], 0.5))
        columns = [
            Column("T1", t1, *np.percentile(t1[brain], [0.5, 99.7])),
            Column("T2-FLAIR", inputs[Role.FLAIR], *np.percentile(inputs[Role.FLAIR][brain], [0.5, 99.7])),
            Column("low-dose T1ce", low, black, white),
            Column("virtual T1ce", virtual, black, white),
            Column("T1ce (acquired)", full, black, white),
        ]
        draw_panel(arguments.picture, columns, brain, np.zeros_like(brain))


if __name__ == "__main__":
    main()
