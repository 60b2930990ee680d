"""Four readers of a DICOM series side by side: ours, dicom2nifti, SimpleITK and dcm2niix, each as its users call it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dicom2nifti.convert_dicom
import nibabel as nib
import numpy as np
import SimpleITK as sitk
from dicom2nifti.exceptions import ConversionError as NotConverted
from dicom2nifti.exceptions import ConversionValidationError as NotValid
from numpy.typing import NDArray
from pydicom import dcmread

from preprocessing.convert import ConversionError, convert_series
from preprocessing.nifti import LPS_FROM_RAS


@dataclass(frozen=True)
class Image:
    """A volume [i, j, k], where it lies (index to LPS mm) and its b-value in s/mm², if the reader tells one."""

    array: NDArray[np.float64]
    affine: NDArray[np.float64]
    b_value: float | None = None


class Refused(Exception):  # noqa: N818 - the reader's answer
    """The reader says that it does not convert the series."""


class Crashed(Exception):  # noqa: N818 - the reader's answer
    """The reader fails without an answer of its own."""


def by_us(files: Sequence[Path]) -> list[Image]:
    """``preprocessing.convert``."""
    try:
        series = convert_series(files)
    except ConversionError as refusal:
        raise Refused(refusal.what) from refusal
    weighted = any(series.b_values)
    images = [
        Image(volume.array.transpose(2, 1, 0), volume.geometry.affine, b if weighted else None)
        for volume, b in zip(series.volumes, series.b_values, strict=True)
    ]
    if series.adc is not None and series.adc is not series.volumes[0]:
        images.append(Image(series.adc.array.transpose(2, 1, 0), series.adc.geometry.affine))
    return images


def by_dicom2nifti(files: Sequence[Path]) -> list[Image]:
    """Its conversion of one series' datasets, without turning the image."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            answer = dicom2nifti.convert_dicom.dicom_array_to_nifti(
                [dcmread(path) for path in files], str(Path(folder) / "x.nii"), reorient_nifti=False
            )
        except (NotConverted, NotValid) as refusal:
            raise Refused(str(refusal).splitlines()[0]) from refusal
        except Exception as error:
            raise Crashed(f"{type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}") from error
        b_values = answer.get("BVAL")
        return _nifti(answer["NII"], None if b_values is None else [float(b) for b in np.ravel(b_values)])


def by_simpleitk(files: Sequence[Path]) -> list[Image]:
    """The example of its documentation: the series' file names in GDCM's order, then the series reader."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of uneven sampling; it goes on all the same
    folder = str(files[0].parent)
    images = []
    for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, series)
        try:
            image = sitk.ReadImage(names)
        except RuntimeError as error:
            raise Crashed(str(error).splitlines()[-1][:60]) from error
        volumes = [image] if image.GetDimension() == 3 else [image[..., t] for t in range(image.GetSize()[3])]
        for volume in volumes:
            matrix = np.eye(4)
            matrix[:3, :3] = np.reshape(volume.GetDirection(), (3, 3)) * volume.GetSpacing()
            matrix[:3, 3] = volume.GetOrigin()
            images.append(Image(sitk.GetArrayFromImage(volume).transpose(2, 1, 0).astype(float), matrix))
    return images


def by_dcm2niix(files: Sequence[Path]) -> list[Image]:
    """The command with its defaults; an exit status other than 0 counts as refusal only if it wrote nothing."""
    program = Path(sys.executable).with_name("dcm2niix")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "-f", "x", "-z", "n", "-o", folder, str(files[0].parent)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        images = []
        for path in sorted(Path(folder).glob("*.nii")):
            table = path.with_suffix(".bval")
            b_values = [float(b) for b in table.read_text().split()] if table.exists() else None
            images += _nifti(nib.load(path), b_values)
        if not images:
            raise Refused(f"exit status {run.returncode}")
        return images


def _nifti(image: nib.Nifti1Image, b_values: Sequence[float] | None) -> list[Image]:
    array = np.asarray(image.dataobj, dtype=np.float64)
    volumes = [array] if array.ndim == 3 else [array[..., index] for index in range(array.shape[3])]
    told = [*b_values] if b_values is not None and len(b_values) == len(volumes) else [None] * len(volumes)
    affine = LPS_FROM_RAS @ image.affine
    return [Image(volume, affine, b) for volume, b in zip(volumes, told, strict=True)]


READERS: dict[str, Callable[[Sequence[Path]], list[Image]]] = {
    "ours": by_us,
    "dicom2nifti": by_dicom2nifti,
    "SimpleITK": by_simpleitk,
    "dcm2niix": by_dcm2niix,
}


def judged(truth: Sequence[Image], read: Callable[[Sequence[Path]], list[Image]], files: Sequence[Path]) -> str:
    """What the reader makes of the files, in a few words: "right", or everything that is not."""
    try:
        found = read(files)
    except Refused as refusal:
        return f"refuses: {refusal}"
    except Crashed as crash:
        return f"crashes: {crash}"
    return "; ".join(_faults(truth, found)) or "right"


def _faults(truth: Sequence[Image], found: Sequence[Image]) -> list[str]:
    size, sizes = truth[0].array.shape, {image.array.shape for image in found}
    onto = [_turned(image, truth[0]) for image in found]
    if any(image is None for image in onto):
        made = ", ".join("×".join(str(n) for n in shape) for shape in sorted(sizes))
        what = "other geometry" if {tuple(sorted(s)) for s in sizes} == {tuple(sorted(size))} else "wrong size"
        return [f"{what}: {len(found)} of {made} for {len(truth)} of {'×'.join(str(n) for n in size)}"]
    matches = [_match(array, truth) for array in onto if array is not None]
    faults = []
    if unknown := matches.count(None):
        faults.append(f"{unknown} volumes with other voxels")
    if missing := len(set(range(len(truth))) - set(matches)):
        faults.append(f"{len(truth) - missing} of {len(truth)} volumes")
    expected = [None if match is None else truth[match].b_value for match in matches]
    if any(b is not None for b in expected):
        told = [image.b_value for image in found]
        if all(b is None for b in told):
            faults.append("no b-values")
        elif any(_differ(a, b) for a, b in zip(told, expected, strict=True)):
            faults.append("b = " + ", ".join("none" if b is None else f"{b:.0f}" for b in told))
    return faults


def _differ(told: float | None, expected: float | None) -> bool:
    if told is None or expected is None:
        return told is not expected
    return abs(told - expected) > 1


def _match(array: NDArray[np.float64], truth: Sequence[Image]) -> int | None:
    scale = max(float(np.abs(image.array).max()) for image in truth)
    near = [index for index, image in enumerate(truth) if np.abs(image.array - array).max() < 1e-5 * scale]
    return near[0] if near else None


def _turned(image: Image, truth: Image) -> NDArray[np.float64] | None:
    """The image's voxels on the truth's grid when both are the same grid, turned or flipped; else nothing."""
    turn = np.linalg.inv(truth.affine) @ image.affine
    signs = np.round(turn[:3, :3])
    if np.abs(turn[:3, :3] - signs).max() > 2e-3 or not (np.abs(signs).sum(axis=0) == 1).all():
        return None
    axes = [int(np.abs(signs[axis]).argmax()) for axis in range(3)]
    array = np.transpose(image.array, axes)
    flips = [axis for axis in range(3) if signs[axis, axes[axis]] < 0]
    first = [array.shape[axis] - 1 if axis in flips else 0 for axis in range(3)]
    if array.shape != truth.array.shape or np.abs(turn[:3, 3] - first).max() > 0.05:
        return None
    return np.flip(array, tuple(flips))
