"""The diffusion weighting of one image: the standard's attributes first, then each vendor's own."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

# PS3.3 C.8.13.5.9 (MR Diffusion Macro); classic images of newer scanners carry the attribute at the top level.
STANDARD_B, DIFFUSION = 0x00189087, 0x00189117
DIRECTIONALITY = 0x00189075
GE_OFFSET = 1e9  # GE adds it to the b-value of images from multi-direction protocols


@dataclass(frozen=True)
class PrivateTag:
    """An element of a vendor's block: group, the block's creator, and the element's last byte."""

    group: int
    creator: str
    element: int


SIEMENS_B = PrivateTag(0x0019, "SIEMENS MR HEADER", 0x0C)
GE_B = PrivateTag(0x0043, "GEMS_PARM_01", 0x39)
PHILIPS_B = PrivateTag(0x2001, "Philips Imaging DD 001", 0x03)
PHILIPS_DIRECTION = PrivateTag(0x2001, "Philips Imaging DD 001", 0x04)
UIH_B = PrivateTag(0x0065, "Image Private Header", 0x09)


def b_value(places: Sequence[Dataset]) -> float | None:
    """b in s/mm² of the image that ``places`` describe, the most particular dataset first; None when none says.

    For an enhanced image the places are its frame's functional groups, the shared ones and the top level; for a classic
    image the dataset alone.
    """
    return next((found for place in places if (found := _b_of(place)) is not None), None)


def is_isotropic(places: Sequence[Dataset]) -> bool:
    """Whether the image is already an average over directions (a trace-weighted image)."""
    for place in places:
        for dataset in _with_diffusion_item(place):
            if DIRECTIONALITY in dataset:
                return str(dataset[DIRECTIONALITY].value) == "ISOTROPIC"
            if (direction := private_value(dataset, PHILIPS_DIRECTION)) is not None:
                return str(direction).strip().upper().startswith("I")
    return False


def private_value(dataset: Dataset, tag: PrivateTag) -> object:
    """The element's value, wherever its creator reserved the block (PS3.5 7.8.1); None when it is not there."""
    for key in dataset.keys():  # noqa: SIM118 - the dataset's iterator would parse every element
        reserves = key >> 16 == tag.group and 0x10 <= key & 0xFFFF <= 0xFF
        if reserves and dataset[key].value == tag.creator:
            element = tag.group << 16 | (key & 0xFF) << 8 | tag.element
            if element in dataset:
                return dataset[element].value
    return None


def _b_of(place: Dataset) -> float | None:
    for dataset in _with_diffusion_item(place):
        if STANDARD_B in dataset and (value := _number(dataset[STANDARD_B].value)) is not None:
            return value
        if place is not dataset and str(dataset.get("DiffusionDirectionality", "")) == "NONE":
            return 0.0  # the b-value is required with a direction only
    for tag in (SIEMENS_B, GE_B, PHILIPS_B, UIH_B):
        value = _number(private_value(place, tag))
        if value is not None:
            return value % GE_OFFSET if tag is GE_B else value
    return None


def _with_diffusion_item(place: Dataset) -> list[Dataset]:
    return [place, *place[DIFFUSION].value] if DIFFUSION in place else [place]


def _number(value: object) -> float | None:
    """The first number in an element's value; a vendor's element in an implicit or unknown VR arrives as bytes."""
    if isinstance(value, bytes):
        text = value.split(b"\\")[0].strip(b" \0")
        if text.replace(b".", b"", 1).isdigit():
            value = text.decode("ascii")
        elif len(value) in (4, 8):
            value = struct.unpack("<f" if len(value) == 4 else "<d", value)[0]
        else:
            return None
    elif isinstance(value, str):
        value = value.split("\\")[0]
    elif isinstance(value, Sequence):
        value = value[0] if value else None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
