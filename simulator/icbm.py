"""A whole head around the ICBM 152 2009a tissue maps, for when no label maps are at hand.

nilearn packages grey and white matter and a skull-stripped T1 of the MNI template. Everything else is built here with
simple solids in MNI coordinates: deep nuclei, CSF, skull, scalp, eyes, sinuses, face and neck. It is a phantom, good
enough for a brain extraction network to find the brain in; it is not anatomy.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from simulator.heads import AnatomyError, Head, centred

Mask = NDArray[np.bool_]
PADDING = ((58, 22), (28, 22), (18, 18))  # mm around the template for neck, scalp and face, along k, j, i


@cache
def icbm_head() -> Head:
    """The phantom, with the same structure numbers as the label maps."""
    grey, white, brain = (_map(name) for name in ("gm", "wm", "t1"))
    return centred(_build(grey, white, brain), "icbm152")


def _map(kind: str) -> NDArray[np.float32]:
    path = Path(nilearn.__file__).parent / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise AnatomyError(
            f"nilearn does not carry {path.name}: install the version pinned in constraints.txt, "
            "or give a folder of label maps"
        )
    values = np.asanyarray(nib.load(path).dataobj)
    laid_out = values[::-1, ::-1, :].transpose(2, 1, 0)
    return np.pad(laid_out, PADDING).astype(np.float32)


def _build(grey: NDArray[np.float32], white: NDArray[np.float32], t1: NDArray[np.float32]) -> NDArray[np.int16]:
    # MNI RAS coordinates of every voxel, as broadcastable axes. The template runs x −98 … 98, y −134 … 98, z −72 … 116.
    z = np.arange(grey.shape[0], dtype=np.float32)[:, None, None] - 72 - PADDING[0][0]
    y = 98 + PADDING[1][0] - np.arange(grey.shape[1], dtype=np.float32)[None, :, None]
    x = 98 + PADDING[2][0] - np.arange(grey.shape[2], dtype=np.float32)[None, None, :]
    hull = t1 > 0
    labels = np.zeros(grey.shape, dtype=np.int16)
    distance = _distance(hull)
    _head_shell(labels, distance, x, y, z)
    # The maps average 152 brains, so that sulci are blurred shut; what is dark for its surroundings opens them again.
    dark = t1 - ndimage.gaussian_filter(t1, 5.0, truncate=2.0)
    tissue = (grey + white > 118) & (distance < -1.5) & ((grey + white + 1.5 * dark > 200) | (distance < -25))
    _brain(labels, grey, white, tissue, distance, x, y, z)
    return labels


def _distance(mask: Mask) -> NDArray[np.float32]:
    """mm outside the mask; negative inside."""
    image = sitk.SignedMaurerDistanceMap(sitk.GetImageFromArray(mask.astype(np.uint8)), squaredDistance=False)
    return np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)


def _head_shell(
    labels: NDArray[np.int16],
    distance: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
) -> None:
    # Face: an egg below the forehead; neck: a tilted cylinder that runs out of the picture.
    face = ((x / 62) ** 2 + ((y - 36) / 62) ** 2 + ((z + 62) / 72) ** 2) < 1
    nose = ((x / 14) ** 2 + ((y - 96) / 20) ** 2 + ((z + 52) / 26) ** 2) < 1
    neck = ((x / 58) ** 2 + ((y + 28 + 0.15 * (z + 90)) / 66) ** 2 < 1) & (z < -45)
    # Upwards the scalp follows the skull; the distance grows below, where muscle and fat take over.
    scalp = distance < 15
    solid = scalp | face | nose | neck
    depth = _distance(solid)
    labels[solid] = 507
    labels[solid & (depth > -4.5)] = 511
    skull = (distance > 0) & (distance < 9) & ~((z < -62) & ((y + 38) ** 2 + x**2 < 18**2))
    labels[skull] = 515
    labels[skull & (distance > 4.0) & (distance < 6.5) & (z > -25)] = 516
    eyes = np.zeros_like(solid)
    for side in (-1, 1):
        orbit = ((x - side * 32) ** 2 + ((y - 62) / 1.5) ** 2 + (z + 36) ** 2) < 19**2
        labels[orbit & (distance > 2)] = 507
        eyes |= ((x - side * 32) ** 2 + (y - 72) ** 2 + (z + 36) ** 2) < 12.5**2
        maxillary = ((x - side * 24) / 13) ** 2 + ((y - 52) / 16) ** 2 + ((z + 68) / 14) ** 2 < 1
        labels[maxillary & solid & (depth < -6)] = 0
        mastoid = ((x - side * 52) / 10) ** 2 + ((y + 38) / 12) ** 2 + ((z + 44) / 14) ** 2 < 1
        labels[mastoid & (distance > 2) & (depth < -8)] = 516
    labels[eyes & (distance > 1)] = 506
    airway = ((x / 9) ** 2 + ((y - 20) / 14) ** 2 < 1) & (z < -62)
    nasal = ((x / 15) ** 2 + ((y - 62) / 26) ** 2 + ((z + 52) / 18) ** 2) < 1
    sphenoid = ((x / 13) ** 2 + ((y - 26) / 11) ** 2 + ((z + 38) / 9) ** 2) < 1
    labels[nasal & solid & (depth < -5)] = 509
    labels[nasal & (np.abs(np.abs(x) - 6) < 2.5) & (depth < -7)] = 0
    labels[sphenoid & (distance > 2.5)] = 0
    labels[airway & solid & (depth < -6)] = 0
    spine = ((x / 17) ** 2 + ((y + 36) / 17) ** 2 < 1) & (z < -62) & (distance > 0)
    labels[spine] = 516
    labels[spine & ((x / 11) ** 2 + ((y + 42) / 9) ** 2 < 1)] = 24
    labels[spine & ((x / 6.5) ** 2 + ((y + 42) / 5) ** 2 < 1)] = 16


def _brain(
    labels: NDArray[np.int16],
    grey: NDArray[np.float32],
    white: NDArray[np.float32],
    tissue: Mask,
    distance: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
) -> None:
    hull = distance <= 0
    labels[hull] = 24
    left = np.broadcast_to(x < 0, hull.shape)
    is_white = tissue & (white > grey)
    tentorium = -6 - 0.22 * np.abs(x) - 0.30 * np.clip(-52 - y, 0, None)
    cerebellum = (y < -34) & (z < tentorium) & ((np.abs(x) > 12) | (y < -42))
    stem = (np.abs(x) < 13) & (y > -42) & (y < -12) & (z < -8)
    for side, sided in ((0, left), (1, ~left)):
        labels[tissue & ~is_white & sided] = (3, 42)[side]
        labels[is_white & sided] = (2, 41)[side]
        labels[tissue & ~is_white & cerebellum & sided] = (8, 47)[side]
        labels[is_white & cerebellum & sided] = (7, 46)[side]
        sign = (-1, 1)[side]
        for code, centre, radius in (
            ((10, 49)[side], (11, -18, 8), (9, 14, 8)),
            ((11, 50)[side], (13, 11, 10), (6, 11, 11)),
            ((12, 51)[side], (26, 3, 1), (6.5, 15, 10)),
            ((13, 52)[side], (19, -3, 0), (4.5, 8, 6)),
        ):
            solid = (
                ((x - sign * centre[0]) / radius[0]) ** 2
                + ((y - centre[1]) / radius[1]) ** 2
                + ((z - centre[2]) / radius[2]) ** 2
            ) < 1
            labels[solid & tissue & ((grey > 60) | (code in (10, 49, 13, 52)))] = code
        lateral = (
            hull & ~tissue & sided & (np.abs(x) < 36) & (np.abs(x) > 1) & (y < 38) & (y > -60) & (z > -22) & (z < 30)
        )
        labels[lateral & (distance < -20)] = (4, 43)[side]
    labels[tissue & stem] = 16
    third = hull & ~tissue & (np.abs(x) < 4) & (y < 6) & (y > -34) & (z < 8) & (z > -14)
    labels[third] = 14
    labels[hull & (((x / 7) ** 2 + ((y - 4) / 4) ** 2 + ((z + 20) / 2.5) ** 2) < 1)] = 85
    _sinuses(labels, distance, x, y, z)


def _sinuses(
    labels: NDArray[np.int16],
    distance: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
) -> None:
    """Superior sagittal, transverse and straight sinus, and the large arteries at the skull base."""
    free = np.isin(labels, (24, 515))
    sagittal = (distance > -5) & (distance < 2) & (np.abs(x) < 4.5 - 0.4 * np.abs(distance + 1)) & (z > -8) & (y < 60)
    transverse = (distance > -4) & (distance < 3) & (np.abs(z + 17 + 0.06 * np.abs(x)) < 4) & (y < -40)
    straight = (np.abs(x) < 2) & (np.abs(z - (-6 - 0.30 * (-52 - y))) < 2.5) & (y < -46) & (y > -92)
    labels[free & (sagittal | transverse | straight)] = 514
    carotids = ((np.abs(x) - 13) ** 2 + (y - 6) ** 2 < 2.8**2) & (z < -14) & (z > -60)
    basilar = (x**2 + (y + 10) ** 2 < 2.0**2) & (z > -50) & (z < -16)
    middle = ((y - 4) ** 2 + (z + 16 + 0.1 * np.abs(x)) ** 2 < 2.0**2) & (np.abs(x) > 8) & (np.abs(x) < 44)
    labels[(carotids | basilar | middle) & np.isin(labels, (24, 515, 507, 3, 42))] = 502
