"""How many slices the scanner says it made: the only way to notice that a series was cropped at an end.

A count is believed where it was found right on real files (docs/conversion.md lists which), and only for images that
the scanner itself reconstructed slice by slice: reformatted ones keep the count of what they were made from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from preprocessing.bvalue import PrivateTag, private_value
from preprocessing.conversion_error import ConversionError
from preprocessing.frame import Frame
from preprocessing.frames import PER_FRAME, Source

GE_LOCATIONS = PrivateTag(0x0021, "GEMS_RELA_01", 0x4F)
PHILIPS_SLICES = PrivateTag(0x2001, "Philips Imaging DD 001", 0x18)
SIEMENS_PROTOCOL = PrivateTag(0x0029, "SIEMENS CSA HEADER", 0x20)
# The image's counters of a Siemens X reconstruction; partitions and slices of the series are the 20th and 21st.
XA_IMAGE = PrivateTag(0x0021, "SIEMENS MR SDI 02", 0xFE)
XA_COUNTERS = PrivateTag(0x0021, "SIEMENS MR SDI 02", 0x8E)
XA_PARTITIONS, XA_SLICES = 19, 20

SEND_ALL = "Send all images of the series from the scanner or the PACS"


@dataclass(frozen=True)
class Declaration:
    """``count`` slices of one volume, according to ``element``."""

    count: int
    element: str


def require_declared_slices(sources: Sequence[Source], found: int, where: str) -> None:
    """Raise ``ConversionError`` when the headers declare more slices than the ``found`` ones: an end is missing."""
    for source in sources[:1]:
        if source.kind == "mosaic" or not reconstructed_by_slice(source.dataset):
            return
        for declaration in slices_declared(source):
            if found < declaration.count:
                raise ConversionError(
                    where,
                    f"has {found} slices, but {declaration.element} declares {declaration.count}: the series is "
                    "cropped at an end, or lacks slices at equal distances",
                    SEND_ALL,
                )


def require_declared_images(sources: Sequence[Source], frames: Sequence[Frame], where: str) -> None:
    """Raise ``ConversionError`` when images, stack positions or volumes that the headers count are not there."""
    dataset = sources[0].dataset
    if not reconstructed_by_slice(dataset):
        return
    declared = _whole_number(dataset.get("ImagesInAcquisition"))
    if all(source.kind == "classic" for source in sources) and declared and len(frames) < declared:
        raise ConversionError(
            where, f"has {len(frames)} images, but Images in Acquisition (0020,1002) declares {declared}", SEND_ALL
        )
    places = {frame.stack_position for frame in frames if frame.stack_position}
    if places and len({frame.stack for frame in frames}) == 1 and len(places) < max(places):
        missing = sorted(set(range(1, max(places) + 1)) - places)
        listed = ", ".join(str(number) for number in missing[:10])
        raise ConversionError(where, f"lacks In-Stack Position (0020,9057) {listed} of {max(places)}", SEND_ALL)
    _require_volumes(sources, frames, where)


def _require_volumes(sources: Sequence[Source], frames: Sequence[Frame], where: str) -> None:
    """Siemens X scanners write a file for each volume and count them; derived series keep the count of their source."""
    dataset = sources[0].dataset
    declared = _whole_number(dataset.get("NumberOfTemporalPositions"))
    original = dataset.get("ImageType", [""])[0] == "ORIGINAL"
    if sources[0].kind != "multi-frame" or "SIEMENS" not in str(dataset.get("Manufacturer", "")).upper():
        return
    found = {frame.time for frame in frames}
    if original and declared and len(found) < declared:
        raise ConversionError(
            where, f"has {len(found)} volumes, but Number of Temporal Positions (0020,0105) declares {declared}",
            SEND_ALL,
        )


def reconstructed_by_slice(dataset: Dataset) -> bool:
    """Whether the images are the acquisition's own slices, or diffusion maps of them, and not reformatted."""
    kind = {str(value).upper() for value in dataset.get("ImageType", [])}
    if kind & {"SECONDARY", "MPR", "RESAMPLED", "REFORMATTED", "PROJECTION IMAGE"}:
        return False
    return bool(kind & {"ORIGINAL", "DIFFUSION", "ADC"})


def slices_declared(source: Source) -> list[Declaration]:
    """What each vendor's headers say of the number of slices in one volume."""
    dataset = source.dataset
    candidates = (
        ("Locations in Acquisition (0021,104F)", _whole_number(private_value(dataset, GE_LOCATIONS))),
        ("Number of Slices (2001,1018)", _whole_number(private_value(dataset, PHILIPS_SLICES))),
        ("the protocol in (0029,1020)", _siemens_protocol(private_value(dataset, SIEMENS_PROTOCOL))),
        ("the image counters in (0021,118E)", _siemens_counters(dataset)),
    )
    return [Declaration(count, element) for element, count in candidates if count]


def _siemens_protocol(header: object) -> int | None:
    """Slices of the protocol that Siemens keeps as text in the series' CSA header: of a 3D slab, its partitions."""
    if not isinstance(header, bytes):
        return None
    found = dict(re.findall(rb"(sSliceArray\.lSize|sKSpace\.lImagesPerSlab|sKSpace\.ucDimension)\s*=\s*(\w+)", header))
    groups, partitions, dimension = (
        _whole_number(found.get(name))
        for name in (b"sSliceArray.lSize", b"sKSpace.lImagesPerSlab", b"sKSpace.ucDimension")
    )
    if groups is None or dimension not in (2, 4):
        return None
    return groups if dimension == 2 else groups * (partitions or 0)


def _siemens_counters(dataset: Dataset) -> int | None:
    if PER_FRAME not in dataset:
        return None
    image = private_value(dataset[PER_FRAME].value[0], XA_IMAGE)
    counters = private_value(image[0], XA_COUNTERS) if isinstance(image, Sequence) and len(image) else None
    parts = str(counters).split("_")
    if len(parts) <= XA_SLICES:
        return None
    partitions, slices = (_whole_number(parts[place]) for place in (XA_PARTITIONS, XA_SLICES))
    return (partitions or 0) * (slices or 0)


def _whole_number(value: object) -> int | None:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    try:
        return int(text.strip(" \0"), 0)
    except ValueError:
        return None
