"""NIfTI volumes of a real patient as a DICOM study."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from simulator.deformation import rotation
from simulator.grid import resample
from simulator.nifti import NiftiError, read, wrap_nifti
from simulator.registration import rigid
from tests.simulator.validity import errors


def save(path: Path, seed: int, tilt: float, mirrored: bool = False, shape: tuple[int, ...] = (40, 48, 12)) -> Path:
    """An oblique volume with thick slices, of whole numbers; the RAS affine may be right- or left-handed."""
    axes = rotation(np.array([tilt, -4.0, 3.0])) @ np.diag([1.0, 1.0, -1.0 if mirrored else 1.0])
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array([0.9, 0.9, 5.5])
    affine[:3, 3] = [10.0, -20.0, 30.0]
    # An egg of tissue with a brighter spot that grows with the seed, so that two of them can be aligned.
    index = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((index**2 * np.array([1, 0.8, 1.2, 1]).reshape(-1, *[1] * len(shape))[: len(shape)]).sum(axis=0))
    spot = np.exp(-((index[0] - 0.2) ** 2 + (index[1] + 0.1) ** 2 + index[2] ** 2) / 0.02)
    folds = 150 * np.sin(7 * index[0] + 1) * np.cos(6 * index[1]) * np.cos(5 * index[2])
    values = np.where(radius < 0.75, 900 + folds + 300 * seed * spot, 0).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_voxel_stays_where_it_was(tmp_path: Path, mirrored: bool) -> None:
    t1 = save(tmp_path / "t1.nii.gz", 1, 12.0, mirrored)
    flair = save(tmp_path / "flair.nii.gz", 2, -9.0, mirrored)
    t1ce = save(tmp_path / "t1ce.nii.gz", 3, 12.0, mirrored)
    study = wrap_nifti(t1, flair, t1ce, tmp_path / "out")
    assert study.dwi is None and study.adc is None and study.lesion is None
    for folder, source in ((study.t1, t1), (study.flair, flair), (study.full_dose, t1ce)):
        files = sorted(folder.glob("*.dcm"))
        assert errors(files[0]) == []
        image = sitk.ReadImage([str(f) for f in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))])
        volume = nib.load(source)
        values = np.asanyarray(volume.dataobj)
        for index in ((20, 24, 6), (19, 14, 5), (17, 28, 7)):
            ras = volume.affine @ [*index, 1]
            found = image.TransformPhysicalPointToIndex([-ras[0], -ras[1], ras[2]])
            assert image[found] == values[index]


def test_the_low_dose_lies_between_with_noise(tmp_path: Path) -> None:
    t1, t1ce = save(tmp_path / "t1.nii.gz", 1, 5.0), save(tmp_path / "t1ce.nii.gz", 3, 5.0)
    study = wrap_nifti(t1, save(tmp_path / "f.nii.gz", 2, 0.0), t1ce, tmp_path / "out", low_dose=0.3, noise=0.02)
    (before, grid), (after, _) = read(t1), read(t1ce)
    moved = resample(before, grid, grid, rigid(after, grid, before, grid))
    low = np.stack([dcmread(f).pixel_array for f in sorted(study.low_dose.glob("*.dcm"))])
    inside = moved > 500
    residual = (low - (moved + 0.3 * (after - moved)))[inside]
    expected = 0.02 * np.median(before[before > before.mean()])
    assert abs(residual.mean()) < 0.1 * expected
    assert residual.std() == pytest.approx(expected, rel=0.1)
    header = dcmread(sorted(study.low_dose.glob("*.dcm"))[0])
    assert header.ContrastBolusAgent and header.ScanningSequence == "SE"


def test_an_adc_map_and_a_mask_come_along(tmp_path: Path) -> None:
    t1 = save(tmp_path / "t1.nii.gz", 1, 5.0)
    study = wrap_nifti(t1, t1, t1, tmp_path / "out", adc=save(tmp_path / "adc.nii.gz", 4, 2.0), lesion=t1)
    assert study.adc is not None and study.lesion is not None
    assert "ADC" in dcmread(sorted(study.adc.glob("*.dcm"))[0]).ImageType


def test_unusable_volumes_are_named(tmp_path: Path) -> None:
    t1 = save(tmp_path / "t1.nii.gz", 1, 5.0)
    (tmp_path / "text.nii.gz").write_text("nothing")
    with pytest.raises(NiftiError, match=r"text.nii.gz cannot be read"):
        wrap_nifti(tmp_path / "text.nii.gz", t1, t1, tmp_path / "a")
    with pytest.raises(NiftiError, match="has 4 dimensions"):
        wrap_nifti(t1, save(tmp_path / "4d.nii.gz", 1, 0, shape=(4, 4, 4, 2)), t1, tmp_path / "b")
    sheared = np.diag([1.0, 1.0, 4.0, 1.0])
    sheared[0, 2] = 2.0
    nib.save(nib.Nifti1Image(np.full((5, 5, 5), 300, dtype=np.int16), sheared), tmp_path / "sheared.nii.gz")
    with pytest.raises(NiftiError, match="sheared axes"):
        wrap_nifti(t1, t1, tmp_path / "sheared.nii.gz", tmp_path / "c")
    millimetres = tmp_path / "si.nii.gz"
    nib.save(nib.Nifti1Image(np.full((5, 5, 5), 8e-4, dtype=np.float32), np.eye(4)), millimetres)
    with pytest.raises(NiftiError, match="1e-6 mm²/s is expected"):
        wrap_nifti(t1, t1, t1, tmp_path / "d", adc=millimetres)
