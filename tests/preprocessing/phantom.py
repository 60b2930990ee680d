"""A head with two contrasts made from a label map, for tests that need to know the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.nifti import read_nifti
from preprocessing.reference.register import centroid
from preprocessing.resample import Matrix, inverse, matrix_of, resample
from preprocessing.volume import Geometry, Volume
from tests.preprocessing.series import shared

# Label → (T1, FLAIR) signal; labels as in the shared data's README.
SIGNAL = {
    2: (110, 75), 41: (110, 75), 3: (75, 95), 42: (75, 95), 4: (25, 12), 43: (25, 12), 24: (22, 12), 10: (90, 90),
    49: (90, 90), 11: (80, 95), 50: (80, 95), 12: (85, 90), 51: (85, 90), 13: (95, 70), 52: (95, 70), 17: (75, 98),
    53: (75, 98), 16: (100, 80), 7: (105, 72), 46: (105, 72), 8: (78, 92), 47: (78, 92), 28: (95, 80), 60: (95, 80),
    502: (80, 10), 514: (60, 20), 506: (30, 20), 507: (70, 60), 511: (90, 80), 515: (10, 8), 516: (130, 70),
}  # fmt: skip
BRAIN = [label for label in SIGNAL if label < 100 and label != 24]


@cache
def head(number: int = 1) -> tuple[Volume, Volume, NDArray[np.bool_]]:
    """T1 and FLAIR without noise, and the brain mask, on the label map's 1 mm grid."""
    labels = read_nifti(shared("anatomy", f"head_{number:02d}.nii.gz"))
    table = np.zeros((600, 2), dtype=np.float32)
    for label, signals in SIGNAL.items():
        table[label] = signals
    index = np.clip(labels.array.astype(int), 0, 599)
    t1, flair = (labels.with_array(ndimage.gaussian_filter(table[:, c][index], 0.6)) for c in range(2))
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.isin(labels.array, BRAIN), iterations=3))
    return t1, flair, np.asarray(brain)


Triple = tuple[float, float, float]


def moved(degrees: Triple, shift: Triple, centre: NDArray[np.float64]) -> Matrix:
    """A rotation about ``centre`` and a translation in mm, as a point-to-point matrix."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetRotation(*np.deg2rad(degrees).tolist())
    transform.SetTranslation(shift)
    return matrix_of(transform)


def scanned(volume: Volume, brain: NDArray[np.bool_], matrix: Matrix, spacing: tuple[float, float, float],
            size: tuple[int, int, int], noise: float = 3.0, seed: int = 0) -> Volume:  # fmt: skip
    """An axial scan of the head after it moved by ``matrix``: thick slices averaged, Rician noise added."""
    origin = centroid(brain, volume.geometry) - (np.asarray(size) - 1) * np.asarray(spacing) / 2
    upright = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    layers = []
    for offset in np.arange(-(spacing[2] - 1) / 2, spacing[2] / 2):
        grid = Geometry(size, (float(origin[0]), float(origin[1]), float(origin[2] + offset)), spacing, upright)
        layers.append(resample(volume, like=grid, transform=inverse(matrix)).array)
    random = np.random.default_rng(seed)
    signal = np.mean(layers, axis=0)
    real, imaginary = random.normal(0, noise, (2, *signal.shape))
    grid = Geometry(size, (float(origin[0]), float(origin[1]), float(origin[2])), spacing, upright)
    return Volume(np.hypot(signal + real, imaginary).astype(np.float32), grid, "scan")
