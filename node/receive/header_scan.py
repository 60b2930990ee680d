"""What the receiver must know of an instance, found by walking over its elements without decoding them.

Reading a header with pydicom costs some milliseconds, more than all the rest of receiving; this walk costs a fraction
of one. It is strict: whatever is not plainly in order, or in a character set that takes more than a look, is left to
node.header.instance.scan, which decides what the instance is or why it is none. Both say the same of the same bytes.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO, cast

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.derive.provenance import MANUFACTURER, PRIVATE_CREATOR, PRIVATE_GROUP
from node.header.instance import HeaderError, scan
from node.header.pixels import JPIP, PIXEL_TAGS, UNDEFINED_LENGTH, fragments_end

_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*")
_WHOLE = re.compile(rb"[+-]?[0-9]{1,9}")
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 16

_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, _STUDY_DATE = 0x00080005, 0x00080016, 0x00080018, 0x00080020
_ACCESSION, _MODALITY, _MANUFACTURER, _SERIES_DESCRIPTION = 0x00080050, 0x00080060, 0x00080070, 0x0008103E
_PATIENT_ID, _EQUIPMENT, _STUDY, _SERIES, _SERIES_NUMBER = 0x00100020, 0x0018A001, 0x0020000D, 0x0020000E, 0x00200011
_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED = (
    0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
)  # fmt: skip
# The VR each must have: where another is written, the walk knows nothing.
_WANTED = {
    _CHARACTER_SET: b"CS", _SOP_CLASS: b"UI", _SOP_INSTANCE: b"UI", _STUDY_DATE: b"DA", _ACCESSION: b"SH",
    _MODALITY: b"CS", _MANUFACTURER: b"LO", _SERIES_DESCRIPTION: b"LO", _PATIENT_ID: b"LO", _EQUIPMENT: b"SQ",
    _STUDY: b"UI", _SERIES: b"UI", _SERIES_NUMBER: b"IS", _SAMPLES: b"US", _PHOTOMETRIC: b"CS", _FRAMES: b"IS",
    _ROWS: b"US", _COLUMNS: b"US", _ALLOCATED: b"US",
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What an instance is and belongs to. ``truncated``: its pixels end early; ``ours``: Quarterdose made it."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    study_date: str
    accession_number: str
    modality: str
    series_description: str
    series_number: int | None
    truncated: bool
    ours: bool


Content = bytes | bytearray | mmap.mmap
"""A DICOM file, in memory or mapped."""


def identify(content: Content, content_start: int, transfer_syntax_uid: str) -> Identity:
    """Read the DICOM file whose data set begins at ``content_start``.

    Raises node.header.instance.HeaderError as its ``scan`` does, and for what only says where its pixels are: it may
    come by DICOMweb, say, where no transfer syntax is negotiated.
    """
    if transfer_syntax_uid in JPIP:
        raise HeaderError("its pixels are not in it but elsewhere (JPIP)")
    found = walk(content, content_start, transfer_syntax_uid)
    return found if found is not None else identify_with_pydicom(content)


def identify_at_once(content: Content, content_start: int, transfer_syntax_uid: str) -> Identity | None:
    """As ``identify``, where the walk alone can say it: None otherwise. pydicom takes seconds for some headers."""
    return None if transfer_syntax_uid in JPIP else walk(content, content_start, transfer_syntax_uid)


def identify_with_pydicom(content: Content) -> Identity:
    """The reference: slow and forgiving. Raises HeaderError."""
    header = scan(_source(content))
    return Identity(
        header.sop_class_uid, header.sop_instance_uid, header.study_instance_uid, header.series_instance_uid,
        header.patient_id, header.study_date, header.accession_number, header.modality, header.series_description,
        header.series_number, header.truncated, header.ours,
    )  # fmt: skip


def walk(content: Content, content_start: int, transfer_syntax_uid: str) -> Identity | None:
    """As ``identify``, without pydicom; None when it takes more than this to say."""
    explicit = _is_explicit(transfer_syntax_uid)
    if explicit is None or len(content) <= content_start:
        return None
    try:
        walked = _Walk(content, len(content), explicit)
        pixels = walked.elements(content_start)
        return _identity(walked.values, content, pixels)
    except _DoubtError:
        return None


@lru_cache
def _is_explicit(transfer_syntax_uid: str) -> bool | None:
    """None for a transfer syntax that the walk does not know."""
    syntax = UID(transfer_syntax_uid)
    return None if syntax in _OTHERS or not syntax.is_transfer_syntax else syntax != ImplicitVRLittleEndian


def _source(content: Content) -> BinaryIO:
    if isinstance(content, bytes | bytearray):
        return BytesIO(content)
    content.seek(0)
    return cast(BinaryIO, content)  # it reads, seeks and tells as a file does


_OTHERS = frozenset({DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian})


class _DoubtError(Exception):
    """Not plainly in order: the reference decides."""


class _Walk:
    def __init__(self, data: Content, size: int, explicit: bool) -> None:
        self._data, self._size, self._explicit = data, size, explicit
        self.values: dict[int, bytes] = {}

    def elements(self, position: int) -> tuple[int, int] | None:
        """Walk over the top level and keep what is wanted; start and length of the pixels' value, None without any."""
        data, size, values, explicit, last = self._data, self._size, self.values, self._explicit, 0x0007FFFF
        plain_until = size - _PLAIN_HEAD if explicit else 0
        while position < size:
            if position <= plain_until:  # most elements, without a call for each
                group, element, vr, length = _EXPLICIT(data, position)
                tag, start = group << 16 | element, position + _PLAIN_HEAD
            if position > plain_until or vr not in _SHORT_VRS:
                tag, vr, start, length = self._head(position, explicit)
            if tag <= last:
                raise _DoubtError  # out of order, twice, or a group that does not belong here
            if tag in PIXEL_TAGS:
                return start, length
            last = tag
            if length == UNDEFINED_LENGTH:
                if tag in _WANTED and tag != _EQUIPMENT:
                    raise _DoubtError
                position = self._sequence(start, vr, explicit, 0)
            else:
                position = start + length
                if position > size:
                    raise _DoubtError
            if tag in _WANTED:
                if explicit and vr != _WANTED[tag]:
                    raise _DoubtError
                values[tag] = bytes(data[start:position])
            elif tag >> 16 == PRIVATE_GROUP and 0x10 <= tag & 0xFFFF <= 0xFF:
                values[tag] = bytes(data[start:position])
        return None

    def _head(self, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR, where the value starts, and its length."""
        try:
            if not explicit:
                group, element, length = _IMPLICIT(self._data, position)
                return group << 16 | element, b"", position + 8, length
            group, element, vr, length = _EXPLICIT(self._data, position)
            if vr in _SHORT_VRS:
                return group << 16 | element, vr, position + 8, length
            if vr in _LONG_VRS:
                return group << 16 | element, vr, position + 12, _LENGTH(self._data, position + 8)[0]
        except struct.error:
            raise _DoubtError from None  # it ends in the middle
        if group == 0xFFFE:
            return group << 16 | element, b"", position + 8, _LENGTH(self._data, position + 4)[0]
        raise _DoubtError

    def _sequence(self, position: int, vr: bytes, explicit: bool, depth: int) -> int:
        """Past a value of undefined length: items, each of defined or undefined length, and a delimiter."""
        if (explicit and vr != b"SQ") or depth > _DEEPEST:
            raise _DoubtError
        while True:
            tag, _, start, length = self._head(position, explicit)
            if tag == _SEQUENCE_END and length == 0:
                return start
            if tag != _ITEM:
                raise _DoubtError
            position = self._item(start, length, explicit, depth)

    def _item(self, position: int, length: int, explicit: bool, depth: int) -> int:
        end = self._size if length == UNDEFINED_LENGTH else position + length
        if end > self._size:
            raise _DoubtError
        while position < end:
            tag, vr, start, inner = self._head(position, explicit)
            if tag == _ITEM_END and inner == 0 and length == UNDEFINED_LENGTH:
                return start
            if tag >> 16 == 0xFFFE:
                raise _DoubtError
            position = self._sequence(start, vr, explicit, depth + 1) if inner == UNDEFINED_LENGTH else start + inner
        if position != end or length == UNDEFINED_LENGTH:
            raise _DoubtError
        return end


_PLAIN_HEAD = 8  # bytes before the value of an element of a short VR
_IMPLICIT, _EXPLICIT = struct.Struct("<HHI").unpack_from, struct.Struct("<HH2sH").unpack_from
_LENGTH = struct.Struct("<I").unpack_from


def _identity(values: dict[int, bytes], content: Content, pixels: tuple[int, int] | None) -> Identity:
    decode = _decoder(values.get(_CHARACTER_SET, b""))

    def text(tag: int) -> str:
        return _text(values.get(tag, b""), decode)

    return Identity(
        sop_class_uid=_uid(values, _SOP_CLASS),
        sop_instance_uid=_uid(values, _SOP_INSTANCE),
        study_instance_uid=_uid(values, _STUDY),
        series_instance_uid=_uid(values, _SERIES),
        patient_id=text(_PATIENT_ID),
        study_date=text(_STUDY_DATE),
        accession_number=text(_ACCESSION),
        modality=text(_MODALITY),
        series_description=text(_SERIES_DESCRIPTION),
        series_number=_whole(values, _SERIES_NUMBER),
        truncated=_truncated(values, content, pixels),
        ours=text(_MANUFACTURER).casefold() == MANUFACTURER.casefold() or _marked(values),
    )


def _uid(values: dict[int, bytes], tag: int) -> str:
    value = values.get(tag, b"").removesuffix(b"\x00")
    if len(value) > 64 or not _UID.fullmatch(value):
        raise _DoubtError
    return value.decode("ascii")


def _decoder(character_set: bytes) -> str:
    """The codec of single-byte text; multi-byte ones and code extensions are left to the reference."""
    name = character_set.strip()
    if name in (b"", b"ISO_IR 6"):
        return "ascii"
    if name == b"ISO_IR 100":
        return "latin-1"
    if name == b"ISO_IR 192":
        return "utf-8"
    raise _DoubtError


def _text(value: bytes, decode: str) -> str:
    try:
        text = value.decode(decode)
    except UnicodeDecodeError:
        raise _DoubtError from None
    trimmed = text.rstrip("\0 ").strip(" ")
    if not trimmed.isprintable() or "\\" in trimmed:
        raise _DoubtError
    return trimmed


def _whole(values: dict[int, bytes], tag: int) -> int | None:
    value = values.get(tag, b"").strip(b" ")
    if not value:
        return None
    if not _WHOLE.fullmatch(value):
        raise _DoubtError
    return int(value)


def _short(values: dict[int, bytes], tag: int) -> int | None:
    value = values.get(tag, b"")
    if len(value) not in (0, 2):
        raise _DoubtError
    return int.from_bytes(value, "little") if value else None


def _marked(values: dict[int, bytes]) -> bool:
    """Our other two marks (node.derive.provenance.is_ours). One that may be inside a sequence takes a closer look."""
    if MANUFACTURER.encode() in values.get(_EQUIPMENT, b""):
        raise _DoubtError
    if any(PRIVATE_CREATOR.encode() in value for tag, value in values.items() if tag >> 16 == PRIVATE_GROUP):
        raise _DoubtError
    return False


def _truncated(values: dict[int, bytes], content: Content, pixels: tuple[int, int] | None) -> bool:
    """As node.header.pixels judges it."""
    if pixels is None or pixels[1] == 0:
        return False
    start, length = pixels
    if length == UNDEFINED_LENGTH:
        return not fragments_end(_source(content), start)
    shape = (_ROWS, _COLUMNS, _ALLOCATED)
    bits = (_short(values, _SAMPLES) or 1) * (_whole(values, _FRAMES) or 1)
    for tag in shape:
        bits *= _short(values, tag) or 0
    subsampled = _text(values.get(_PHOTOMETRIC, b""), "ascii").startswith(("YBR_FULL_422", "YBR_PARTIAL"))
    return (not subsampled and length < bits // 8) or start + length > len(content)
