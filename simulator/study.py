"""Studies of simulated patients: the DICOM files a scanner would have sent, or the network's grid without the detour.

>>> subject = simulate_subject(7)
>>> files = write_study(subject, Path("studies"), Scanner())
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from simulator.acquisition import ScanEffects, acquire, head_motion, sampled_on
from simulator.dicom.classic import write_classic
from simulator.dicom.enhanced import write_enhanced
from simulator.dicom.identity import Examination
from simulator.dicom.mosaic import write_mosaic
from simulator.dicom.segmentation import NUMBER, write_segmentation
from simulator.dicom.series import StoredSeries, stored
from simulator.grid import Grid
from simulator.network import NetworkGridSubject, network_grid
from simulator.protocol import Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner
from simulator.subject import Subject, SubjectSettings, simulate_subject

__all__ = [
    "NetworkGridSubject",
    "Scanner",
    "StudyFiles",
    "Subject",
    "SubjectSettings",
    "network_grid",
    "simulate_subject",
    "write_study",
]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StudyFiles:
    """Where a study was written. Each series is a folder of ``.dcm`` files; ``adc`` and ``dwi`` may be missing.

    ``lesion`` is a NIfTI mask of enhancing tissue on the grid of the full-dose series, ``segmentation`` the folder with
    the same as DICOM Segmentation, when there is any; it is truth, so it is not among ``files``.
    """

    folder: Path
    patient: str
    study_instance_uid: str
    frame_of_reference_uid: str
    series_instance_uids: dict[str, str]
    t1: Path
    flair: Path
    low_dose: Path
    full_dose: Path
    dwi: Path | None
    adc: Path | None
    lesion: Path | None
    segmentation: Path | None = None

    @property
    def series(self) -> tuple[Path, ...]:
        """The series folders in the order of acquisition."""
        return tuple(p for p in (self.t1, self.flair, self.dwi, self.adc, self.low_dose, self.full_dose) if p)

    @property
    def files(self) -> list[Path]:
        """Every DICOM file, in the order of acquisition."""
        return [path for folder in self.series for path in sorted(folder.glob("*.dcm"))]


def write_study(
    subject: Subject,
    out: Path,
    scanner: Scanner | None = None,
    progress: Progress | None = None,
    effects: ScanEffects | None = None,
) -> StudyFiles:
    """Scan a subject and write ``out/<patient>/<number>_<series>/NNNN.dcm``; the same bytes for the same arguments.

    Beside them lies the truth: the lesion mask, and ``subject.json`` with the seed, the condition and the head that the
    subject was made from.
    ``progress`` hears (series, number done, number of all). Raises ``FileExistsError`` when the patient's folder holds
    something already.
    """
    scanner, effects = scanner or Scanner(), effects or ScanEffects()
    plans = examination(scanner, stream(subject.seed, "examination"))
    exam = Examination(key_of(subject, scanner, effects), subject.person, scanner, start_of(subject.seed))
    folder = new_folder(out / exam.safe_name)
    done = 0

    def tell(description: str) -> None:
        nonlocal done
        if progress:
            progress(description, done, len(plans))
        done += 1

    gains = stream(subject.seed, "receiver gain")
    folders = {}
    last = plans[-1]
    for acquired in acquire(subject, scanner, plans, effects, tell):
        series = stored(acquired, scanner, float(gains.uniform(0.95, 1.05)))
        folders[acquired.plan.kind] = write_series(exam, series, folder)
        last = acquired.plan  # the full dose; its grid is another than planned if artefacts have changed it
    lesion = folder / "lesion.nii.gz"
    mask = lesion_on(subject, last, effects)
    truth = {"seed": subject.seed, "head": subject.head, "condition": str(subject.condition)}
    (folder / "subject.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    write_mask(mask, last.grid, lesion)
    drawn = folder / f"{NUMBER}_lesion"
    if mask.any():
        drawn.mkdir()
        write_segmentation(exam, last, folders[Kind.FULL_DOSE], mask, drawn)
    if progress:
        progress("done", len(plans), len(plans))
    return replace(study_files(exam, folder, plans, folders, lesion), segmentation=drawn if mask.any() else None)


def key_of(subject: Subject, scanner: Scanner, effects: ScanEffects) -> str:
    """What a study's UIDs are hashed from: everything that makes it another one."""
    key = f"subject {subject.seed} {subject.head} {subject.condition} {scanner} {effects}"
    unusual = (scanner.b_values, scanner.directions, effects.artefacts)
    usual = (Scanner().b_values, Scanner().directions, ())
    return key if unusual == usual else f"{key} {unusual}"


def study_files(
    exam: Examination, folder: Path, plans: tuple[SeriesPlan, ...], folders: dict[Kind, Path], lesion: Path | None
) -> StudyFiles:
    """The record of what was written."""
    return StudyFiles(
        folder,
        exam.person.name,
        exam.study_uid,
        exam.frame_of_reference_uid,
        {str(plan.kind): exam.series_uid(plan.number) for plan in plans},
        folders[Kind.T1],
        folders[Kind.FLAIR],
        folders[Kind.LOW_DOSE],
        folders[Kind.FULL_DOSE],
        folders.get(Kind.DWI),
        folders.get(Kind.ADC),
        lesion,
    )


def new_folder(folder: Path) -> Path:
    """Make the patient's folder. Raises ``FileExistsError`` when something is in it."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds a study already; remove it, or choose another seed or output folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_series(exam: Examination, series: StoredSeries, folder: Path) -> Path:
    """Write one series in the scanner's layout into a folder of its own, and say which."""
    place = folder / f"{series.plan.number:02d}_{series.plan.kind}"
    place.mkdir()
    if exam.scanner.layout is Layout.ENHANCED:
        write_enhanced(exam, series, place)
    elif exam.scanner.layout is Layout.MOSAIC and series.plan.kind is Kind.DWI:
        write_mosaic(exam, series, place)
    else:
        write_classic(exam, series, place)
    return place


def lesion_on(subject: Subject, plan: SeriesPlan, effects: ScanEffects) -> NDArray[np.bool_]:
    """Enhancing tissue where the series shows it: voxels of its grid at least half filled."""
    move = head_motion(subject.seed, plan.kind, effects)
    return sampled_on(subject.lesion.astype(np.float32), subject.grid, plan, move) >= 0.5


def write_mask(mask: NDArray[np.bool_], grid: Grid, path: Path) -> None:
    """A mask [k, j, i] as NIfTI (its axes are RAS, ours LPS)."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.matrix
    nib.save(nib.Nifti1Image(mask.transpose(2, 1, 0).astype(np.uint8), affine), path)


def start_of(seed: int) -> datetime:
    """A working day's morning or afternoon, fixed by the seed."""
    rng = stream(seed, "calendar")
    return datetime(2024, 1, 8, 8, 0) + timedelta(days=int(rng.integers(0, 600)), minutes=int(rng.integers(0, 540)))
