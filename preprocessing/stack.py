"""2D images onto one regular grid, refusing whatever is not one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preprocessing.conversion_error import ConversionError
from preprocessing.frame import Frame
from preprocessing.frames import SEND_AGAIN
from preprocessing.volume import FloatArray, Geometry, Volume

SAME_PLACE = 0.05  # mm: positions nearer than this are one slice; no MR slice is that thin
SAME_SPACING = 1e-3  # share of the pixel spacing: above the rounding of any header
SAME_ANGLE = 1e-3  # difference of direction cosines: 0.06°, above the rounding of any header
TILT = 0.01  # how far a slice may slide sideways per millimetre of slice distance: 0.6°
UNEVEN = 0.03  # share of the slice distance by which one step may differ from the others


def slices_of(frames: Sequence[Frame], where: str) -> list[list[Frame]]:
    """The frames of each slice position, ordered along the normal of the image plane.

    Raises ``ConversionError`` for differing sizes, spacings or orientations, a single slice, slices that slide sideways
    (gantry tilt), missing slices and uneven steps. How many frames a position has is the caller's business.
    """
    first = frames[0]
    spacings = np.asarray([frame.spacing for frame in frames])
    turns = np.asarray([(*frame.row_cosine, *frame.column_cosine) for frame in frames])
    same_size = np.abs(spacings / first.spacing - 1).max(axis=1) < SAME_SPACING
    parallel = np.abs(turns - turns[0]).max(axis=1) < SAME_ANGLE
    for frame, sized, turned in zip(frames, same_size, parallel, strict=True):
        if frame.shape != first.shape or not sized:
            raise ConversionError(
                where,
                f"{frame.where} has {frame.shape[0]} × {frame.shape[1]} pixels of {frame.spacing} mm, "
                f"{first.where} {first.shape[0]} × {first.shape[1]} of {first.spacing} mm",
                "Send the two as series of their own",
            )
        if not turned:
            raise ConversionError(
                where, f"has two orientations: {_orientation(first)} and {_orientation(frame)}",
                "A localiser is not a volume; send each stack as a series of its own",
            )
    normal = np.cross(first.row_cosine, first.column_cosine)
    depths = np.asarray([frame.position for frame in frames]) @ normal
    slices: list[list[Frame]] = []
    deepest = -np.inf
    for index in np.argsort(depths, kind="stable"):
        if depths[index] - deepest < SAME_PLACE:
            slices[-1].append(frames[index])
        else:
            slices.append([frames[index]])
            deepest = depths[index]
    _require_regular(slices, normal, where)
    return slices


def volume_of(slices: Sequence[Sequence[Frame]], array: FloatArray, frame_of_reference: str, source: str) -> Volume:
    """``array`` [k, j, i] in the geometry of ``slices``, which ``slices_of`` found regular."""
    first, last = slices[0][0], slices[-1][0]
    normal = np.cross(first.row_cosine, first.column_cosine)
    step = float((last.position - first.position) @ normal) / (len(slices) - 1)
    direction = np.column_stack([first.row_cosine, first.column_cosine, normal])
    geometry = Geometry(
        (first.shape[1], first.shape[0], len(slices)),
        (float(first.position[0]), float(first.position[1]), float(first.position[2])),
        (first.spacing[1], first.spacing[0], step),
        tuple(float(value) for value in direction.ravel()),
        frame_of_reference,
    )
    return Volume(array, geometry, source)


def _orientation(frame: Frame) -> str:
    cosines = "\\".join(f"{value:.4g}" for value in (*frame.row_cosine, *frame.column_cosine))
    return f"{cosines} ({frame.where})"


def _require_regular(slices: Sequence[Sequence[Frame]], normal: NDArray[np.float64], where: str) -> None:
    if len(slices) < 2:
        raise ConversionError(where, "has a single slice position", "A volume needs more; send the whole series")
    positions = np.asarray([frames[0].position for frames in slices])
    steps = np.diff(positions @ normal)
    step = float(steps.min())
    missing: list[int] = []
    for before, length in enumerate(steps):
        skipped = round(float(length) / step) - 1
        if abs(float(length) - (skipped + 1) * step) > UNEVEN * step + 0.01 * skipped:
            raise ConversionError(
                where,
                f"has uneven slice spacing, from {step:.3f} to {steps.max():.3f} mm; it is {length:.3f} mm between "
                f"slices {before + 1} and {before + 2} ({slices[before][0].where}, {slices[before + 1][0].where})",
                "Reconstruct the series with even spacing",
            )
        start = before + 1 + len(missing)
        missing.extend(range(start + 1, start + 1 + skipped))
    if missing:
        numbers = ", ".join(str(number) for number in missing)
        noun = "slice number" if len(missing) == 1 else "slices number"
        raise ConversionError(
            where,
            f"{noun} {numbers} of {len(slices) + len(missing)} missing (counted from the first along the slice normal; "
            f"the steps are {step:.3f} mm)",
            "Send the missing images",
        )
    expected = positions[0] + np.linspace(0, 1, len(slices))[:, None] * (positions[-1] - positions[0])
    slide = positions[-1] - positions[0]
    slide = slide - (slide @ normal) * normal
    if np.linalg.norm(slide) > TILT * float(steps.sum()):
        tilt = math.degrees(math.atan2(float(np.linalg.norm(slide)), float(steps.sum())))
        raise ConversionError(
            where, f"has slices that slide sideways by {tilt:.1f}° (gantry tilt or shear)",
            "Reconstruct it with upright slices",
        )
    every = [(frame, expected[k]) for k, frames in enumerate(slices) for frame in frames]
    for frame, place in every:
        offset = frame.position - place
        if np.linalg.norm(offset - (offset @ normal) * normal) > 0.1 + TILT * step:
            raise ConversionError(where, f"{frame.where} is shifted sideways against the other slices", SEND_AGAIN)
