"""Whether an instance has its pixels, and all of them, found without loading any."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.tag import BaseTag

from node.header.elements import Elements

# Float Pixel Data, Double Float Pixel Data, Pixel Data (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25)
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
UNDEFINED_LENGTH = 0xFFFFFFFF
JPIP = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205))
"""Transfer syntaxes whose instances only say where their pixels can be fetched (PS3.5 section 8.4.1)."""
_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


class HeaderEnd:
    """The ``stop_when`` of pydicom's reader: stops at the pixels and remembers how far the elements before reach."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.last: BaseTag | None = None
        self.reach: int | None = None  # where the last element ends; None when its length is undefined
        self.pixel_length: int | None = None
        self.pixel_start = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        position = self._source.tell()
        if tag in PIXEL_TAGS:
            self.pixel_start, self.pixel_length = position, length
            return True
        self.last, self.reach = tag, None if length == UNDEFINED_LENGTH else position + length
        return False


@dataclass(frozen=True)
class Pixels:
    """``present``: the element is there and not empty. ``truncated``: it ends before it should."""

    present: bool
    truncated: bool


def pixels(source: BinaryIO, end: HeaderEnd, elements: Elements, inflated: bool) -> Pixels:
    """Judge the pixel data that ``end`` found in ``source``.

    Native pixels must be as long as they declare and as rows × columns × frames need; encapsulated ones must reach
    their Sequence Delimitation Item (PS3.5 A.4). ``inflated``: the data set was deflated, whose stream checks its own
    length when it is read, so positions in ``source`` mean nothing.
    """
    if not end.pixel_length:
        return Pixels(False, False)
    if end.pixel_length == UNDEFINED_LENGTH:
        return Pixels(True, not inflated and not fragments_end(source, end.pixel_start))
    too_short = end.pixel_length < _needed(elements)
    return Pixels(True, too_short or (not inflated and end.pixel_start + end.pixel_length > size(source)))


def size(source: BinaryIO) -> int:
    """Bytes in ``source``; its position stays."""
    here = source.tell()
    source.seek(0, os.SEEK_END)
    length = source.tell()
    source.seek(here)
    return length


def _needed(elements: Elements) -> int:
    """Bytes of native pixel data, or 0 when the header does not say."""
    if elements.text("PhotometricInterpretation").startswith(("YBR_FULL_422", "YBR_PARTIAL")):
        return 0  # chroma is subsampled: shorter than the product
    bits = (elements.integer("SamplesPerPixel") or 1) * (elements.integer("NumberOfFrames") or 1)
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        bits *= elements.integer(keyword) or 0
    return bits // 8


def fragments_end(source: BinaryIO, start: int) -> bool:
    """Whether the encapsulated pixels that start there reach their Sequence Delimitation Item (PS3.5 A.4)."""
    length = size(source)
    source.seek(start)
    while True:
        head = source.read(8)
        if len(head) < 8:
            return False
        group, element, item_length = struct.unpack("<HHI", head)
        if (group, element) == _SEQUENCE_END:
            return True
        if (group, element) != _ITEM or source.seek(item_length, os.SEEK_CUR) > length:
            return False
