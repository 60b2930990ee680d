"""Where each vendor writes the b-value, and in which order to believe them."""

from __future__ import annotations

import struct

from node.header.elements import Elements, private_tags

SIEMENS_MR = ("SIEMENS MR HEADER",)
SIEMENS_CSA = ("SIEMENS CSA HEADER",)
GE_PARAMETERS = ("GEMS_PARM_01",)
PHILIPS_IMAGING = ("Philips Imaging DD 001", "PHILIPS IMAGING DD 001")
UIH_HEADER = ("Image Private Header",)

CSA_IMAGE_HEADER = 0x00291010
TAGS: list[str | int] = [
    "DiffusionBValue", "MRDiffusionSequence", *private_tags(0x0019, 0x0C), *private_tags(0x0043, 0x39),
    *private_tags(0x2001, 0x03), *private_tags(0x0065, 0x09), *private_tags(0x0029, 0x10),
]  # fmt: skip

# GE adds multiples of 10⁹ to the b-value to carry flags.
_GE_FLAGS = 1e9


def b_value(elements: Elements, manufacturer: str) -> float | None:
    """The b-value in s/mm² of one classic instance or of one frame's functional groups, or None when none is written.

    Order: (0018,9087); inside MR Diffusion Sequence (0018,9117), where directionality NONE without a value means 0
    (PS3.3 C.8.13.5.9); Siemens (0019,100C), then its CSA header; GE (0043,1039), first value modulo 10⁹; Philips
    (2001,1003); United Imaging (0065,1009).
    """
    vendor = manufacturer.casefold()
    for found in (
        elements.number("DiffusionBValue"),
        _in_sequence(elements),
        _private(elements, 0x0019, SIEMENS_MR, 0x0C, "siemens" in vendor, "IS"),
        csa_number(elements, "B_value"),
        _ge(elements, "ge" in vendor.replace(",", " ").replace("-", " ").split()),
        _private(elements, 0x2001, PHILIPS_IMAGING, 0x03, "philips" in vendor, "FL"),
        _private(elements, 0x0065, UIH_HEADER, 0x09, "uih" in vendor or "united imaging" in vendor, "FD"),
    ):
        if found is not None and found >= 0:
            return found
    return None


def csa_number(elements: Elements, name: str) -> float | None:
    """One number of the Siemens CSA image header (0029,1010) by its name, or None.

    The header is a list of tags, each: name (64 bytes), number of values, VR, code, number of items, a mark, then
    the items, each led by four integers of which the second is its length (as nibabel's reader has it).
    """
    tag = elements.private(0x0029, SIEMENS_CSA, 0x10)
    value = None if tag is None else elements.value(tag)
    start = value.find(name.encode() + b"\0") if isinstance(value, bytes) else -1
    if start < 0 or not isinstance(value, bytes) or len(value) < start + 100:
        return None
    (length,) = struct.unpack_from("<i", value, start + 88)
    word = value[start + 100 : start + 100 + max(length, 0)].split(b"\0")[0].strip()
    try:
        return float(word)
    except ValueError:
        return None  # an empty item: Siemens lists every name in every image, with or without a value


def _in_sequence(elements: Elements) -> float | None:
    for item in elements.items("MRDiffusionSequence"):
        found = item.number("DiffusionBValue")
        if found is not None:
            return found
        if item.text("DiffusionDirectionality") == "NONE":
            return 0.0
    return None


def _private(
    elements: Elements, group: int, creators: tuple[str, ...], offset: int, trusted: bool, binary: str
) -> float | None:
    tag = elements.private(group, creators, offset, trusted)
    return None if tag is None else elements.number(tag, binary)


def _ge(elements: Elements, trusted: bool) -> float | None:
    found = _private(elements, 0x0043, GE_PARAMETERS, 0x39, trusted, "IS")
    return None if found is None else found % _GE_FLAGS
