"""Typed reading of single DICOM elements: what is absent or unreadable is None or empty, and noted, never an error.

One malformed value must not cost the instance: it is listed in ``Elements.unreadable`` and treated as absent. Private
elements may arrive as UN with their bytes (implicit VR, or an archive that does not know them) and are decoded here.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.tag import Tag

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_BINARY = {"FL": "f", "FD": "d", "SL": "i", "UL": "I", "SS": "h", "US": "H"}
# Private blocks are reserved from (gggg,0010) on; scanners use the first few (PS3.5 section 7.8.1).
_BLOCKS = range(0x10, 0x18)


class Elements:
    """One dataset or sequence item, read by keyword or tag."""

    def __init__(self, dataset: Dataset, unreadable: list[str] | None = None) -> None:
        self._dataset = dataset
        self.unreadable = [] if unreadable is None else unreadable

    def value(self, tag: str | int) -> Any:
        """The element's value as pydicom gives it, or None when it is absent, empty or cannot be decoded."""
        if tag not in self._dataset:
            return None
        try:
            value = self._dataset[tag].value
        # What pydicom raises depends on the VR: a malformed DS, a wrong length, an unknown VR, a broken sequence.
        except (ValueError, TypeError, ArithmeticError, NotImplementedError, KeyError, AttributeError, EOFError,
                OSError, struct.error, BytesLengthException):  # fmt: skip
            self._note(tag)
            return None
        return None if value is None or (isinstance(value, str | bytes | Sequence) and len(value) == 0) else value

    def text(self, tag: str | int) -> str:
        """The value as one line of text, several values joined by backslashes; "" when absent."""
        return "\\".join(self.texts(tag))

    def texts(self, tag: str | int) -> tuple[str, ...]:
        """Each of the values as text, without padding."""
        value = self.value(tag)
        if value is None:
            return ()
        if isinstance(value, bytes):
            value = value.decode("latin-1").split("\\")
        values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
        return tuple(str(item).replace("\0", "").strip() for item in values)

    def numbers(self, tag: str | int, binary: str = "") -> tuple[float, ...]:
        """Each of the values as a finite number; ``binary`` is the VR of a private element that came as bytes."""
        value = self.value(tag)
        if value is None:
            return ()
        numbers = _from_bytes(value, binary) if isinstance(value, bytes) else _from_values(value)
        if numbers is None:
            self._note(tag)
            return ()
        return numbers

    def number(self, tag: str | int, binary: str = "") -> float | None:
        """The first of the values as a finite number."""
        numbers = self.numbers(tag, binary)
        return numbers[0] if numbers else None

    def integer(self, tag: str | int, binary: str = "") -> int | None:
        """The first of the values as a whole number."""
        number = self.number(tag, binary)
        return None if number is None else int(number)

    def items(self, tag: str | int) -> list[Elements]:
        """The items of a sequence; none when it is absent or is no sequence."""
        value = self.value(tag)
        if value is None or isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return []
        return [Elements(item, self.unreadable) for item in value if isinstance(item, Dataset)]

    def private(self, group: int, creators: Sequence[str], offset: int, trusted: bool = False) -> int | None:
        """The tag of a private element in the block that one of ``creators`` reserved, if it is there (PS3.5 7.8.1).

        With ``trusted`` (the manufacturer is known to be the right one), the first block is taken when the group
        names no creator at all: some anonymisers drop the creators and keep the elements.
        """
        named = False
        for block in _BLOCKS:
            creator = self.text(group << 16 | block)
            named = named or creator != ""
            if creator in creators:
                tag = group << 16 | block << 8 | offset
                return tag if tag in self._dataset else None
        tag = group << 16 | 0x1000 | offset
        return tag if trusted and not named and tag in self._dataset else None

    def _note(self, tag: str | int) -> None:
        name = tag if isinstance(tag, str) else str(Tag(tag))
        if name not in self.unreadable:
            self.unreadable.append(name)


def private_tags(group: int, offset: int) -> list[int]:
    """Every tag that a private element and its creator can have: what a partial read must ask for."""
    return [tag for block in _BLOCKS for tag in (group << 16 | block, group << 16 | block << 8 | offset)]


def _from_values(value: Any) -> tuple[float, ...] | None:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        numbers = tuple(float(item) for item in values if item not in (None, ""))
    except (ValueError, TypeError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def _from_bytes(value: bytes, binary: str) -> tuple[float, ...] | None:
    words = value.decode("latin-1").replace("\0", " ").split("\\")
    if any(word.strip() for word in words) and all(_NUMBER.fullmatch(word.strip()) for word in words if word.strip()):
        return _from_values([word.strip() for word in words])
    code = _BINARY.get(binary)
    if code is None or len(value) % struct.calcsize("<" + code):
        return None
    return _from_values(list(struct.unpack(f"<{len(value) // struct.calcsize('<' + code)}{code}", value)))
