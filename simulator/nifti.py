"""A real patient's NIfTI volumes as the DICOM study of the two-injection examination."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from simulator.acquisition import rician
from simulator.dicom.identity import Examination
from simulator.dicom.series import StoredSeries, window
from simulator.grid import Grid, resample
from simulator.kinetics import Injection
from simulator.protocol import LOW_DOSE, REST_OF_DOSE, UNWEIGHTED, Kind, SeriesPlan
from simulator.randomness import stream
from simulator.registration import RegistrationError, rigid
from simulator.scanner import Scanner
from simulator.sequences import Diffusion, Flair, Mprage, SpinEcho
from simulator.study import StudyFiles, new_folder, start_of, study_files, write_mask, write_series
from simulator.subject import person

FloatArray = NDArray[np.float32]

THIN_MM = 2.0  # thinner slices come from a 3D sequence


class NiftiError(ValueError):
    """A NIfTI file cannot become a series; the text says which and why."""


def wrap_nifti(
    t1: Path,
    flair: Path,
    t1ce: Path,
    out: Path,
    adc: Path | None = None,
    lesion: Path | None = None,
    low_dose: float = 0.3,
    noise: float = 0.02,
    seed: int = 0,
    scanner: Scanner | None = None,
) -> StudyFiles:
    """Write the volumes as classic MR series in their native orientation, one Frame of Reference for all.

    ``t1ce`` is the full-dose series. The low-dose series is T1 + ``low_dose`` × (T1ce − T1) on the T1ce's grid, the
    T1 moved there rigidly, with Rician noise of ``noise`` × the head's median T1 signal. ``adc`` (1e-6 mm²/s) becomes
    the scanner's ADC map; without it the study has no diffusion. ``lesion`` is a mask of enhancing tissue on any grid.
    Raises ``NiftiError``.
    """
    scanner = scanner or Scanner(scanner_adc=adc is not None)
    before, before_grid = read(t1)
    after, after_grid = read(t1ce)
    fluid, fluid_grid = read(flair)
    low = low_dose_of(t1, t1ce, low_dose, noise, seed)
    volumes = {
        Kind.T1: (before, before_grid),
        Kind.FLAIR: (fluid, fluid_grid),
        Kind.LOW_DOSE: (low, after_grid),
        Kind.FULL_DOSE: (after, after_grid),
    }
    if adc is not None:
        volumes[Kind.ADC] = read(adc)
        median = float(np.median(volumes[Kind.ADC][0][volumes[Kind.ADC][0] > 0]))
        if not 100 < median < 4000:
            raise NiftiError(f"{adc} has a median of {median:g}; an ADC map in 1e-6 mm²/s is expected (brain: 800)")
    who = replace(person(seed), name=f"SIMULATED^FROM NIFTI {seed:04d}", identifier=f"SIMNII{seed:04d}")
    content = hashlib.sha256(b"".join(v.tobytes() for v, _ in volumes.values())).hexdigest()
    exam = Examination(f"nifti {content} {seed} {scanner}", who, scanner, start_of(seed))
    folder = new_folder(out / exam.safe_name)
    plans = tuple(plan for plan in _plans({kind: grid for kind, (_, grid) in volumes.items()}))
    folders = {}
    for plan in plans:
        pixels = _integers(volumes[plan.kind][0])
        series = StoredSeries(plan, {UNWEIGHTED: pixels}, 1.0, 16 if pixels.max() > 4095 else 12, window(pixels, 1.0))
        folders[plan.kind] = write_series(exam, series, folder)
    mask_file = None
    if lesion is not None:
        mask, mask_grid = read(lesion)
        mask_file = folder / "lesion.nii.gz"
        write_mask(resample((mask > 0).astype(np.float32), mask_grid, after_grid) >= 0.5, after_grid, mask_file)
    return study_files(exam, folder, plans, folders, mask_file)


def low_dose_of(t1: Path, t1ce: Path, share: float = 0.3, noise: float = 0.02, seed: int = 0) -> FloatArray:
    """The low-dose series as ``wrap_nifti`` makes it up, [k, j, i] on the T1ce's grid. Raises ``NiftiError``."""
    before, before_grid = read(t1)
    after, after_grid = read(t1ce)
    # The patient moved between the two; mixing them voxel by voxel would make ghosts.
    try:
        move = rigid(after, after_grid, before, before_grid)
    except RegistrationError as error:
        raise NiftiError(f"{t1} and {t1ce}: {error}") from error
    aligned = resample(before, before_grid, after_grid, move)
    head = before[before > before.mean()]
    low = aligned + share * (after - aligned)
    return rician(low.astype(np.float32), noise * float(np.median(head)), stream(seed, "noise of the low dose"))


def read(path: Path) -> tuple[FloatArray, Grid]:
    """A 3D volume [k, j, i] and its grid, orientation untouched. Raises ``NiftiError``."""
    try:
        image = nib.load(path)
        values = np.asanyarray(image.dataobj)
    except (OSError, ImageFileError) as error:
        raise NiftiError(f"{path} cannot be read as NIfTI: {error}") from error
    if values.ndim != 3:
        raise NiftiError(f"{path} has {values.ndim} dimensions; one 3D volume is needed")
    if not np.isfinite(values).all() or values.max() <= 0:
        raise NiftiError(f"{path} holds no finite positive intensities")
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    i, j, k = values.shape
    grid = Grid.from_matrix((i, j, k), matrix)
    if np.abs(grid.directions.T @ grid.directions - np.eye(3)).max() > 1e-3:
        raise NiftiError(
            f"{path} has sheared axes, which DICOM slices cannot have; resample it to a regular grid first"
        )
    return values.transpose(2, 1, 0).astype(np.float32), grid


def _integers(values: FloatArray) -> NDArray[np.uint16]:
    """Stored values: the file's own where they fit 16 bits and fill them somewhat, else scaled to 12 bits."""
    top = float(values.max())
    factor = 1.0 if 200 <= top <= 65535 else 4095 / top
    return np.asarray(np.clip(np.rint(values * factor), 0, 65535), dtype=np.uint16)


def _plans(grids: dict[Kind, Grid]) -> list[SeriesPlan]:
    """The same examination as for simulated patients, at the times of a plausible day."""
    first, second = Injection(16.0, LOW_DOSE), Injection(25.0, REST_OF_DOSE)
    timing = {
        Kind.T1: (2, 2.0, ()),
        Kind.FLAIR: (3, 7.2, ()),
        Kind.ADC: (5, 11.9, ()),
        Kind.LOW_DOSE: (6, 18.5, (first,)),
        Kind.FULL_DOSE: (7, 27.5, (first, second)),
    }
    words = {
        Kind.T1: "t1_tra",
        Kind.FLAIR: "t2_tirm_tra_dark-fluid",
        Kind.ADC: "ep2d_diff_tra_ADC",
        Kind.LOW_DOSE: "t1_tra_gd_low",
        Kind.FULL_DOSE: "t1_tra_gd",
    }
    plans = []
    for kind, (number, start, injections) in timing.items():
        if kind not in grids:
            continue
        thickness = round(grids[kind].spacing[2], 4)
        t1 = Mprage() if thickness < THIN_MM else SpinEcho()
        sequence = Flair() if kind is Kind.FLAIR else Diffusion() if kind is Kind.ADC else t1
        plans.append(SeriesPlan(kind, number, start, 4.0, sequence, grids[kind], thickness, words[kind], injections))
    return plans
