"""The two halves of a DICOM file that comes in chunks (PS3.10 section 7): what it is, and its data set as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain

from pydicom import dcmread

_GROUP_LENGTH_AT, _GROUP_LENGTH_END = 132, 144  # preamble, prefix, File Meta Information Group Length (0002,0000)
_GROUP_LENGTH_TAG = b"\x02\x00\x00\x00UL\x04\x00"
_LONGEST_META = 1 << 20


class Part10Error(Exception):
    """It does not begin as a DICOM file does."""


@dataclass(frozen=True)
class FileMeta:
    """What File Meta Information says of the instance; empty where it does not."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def split(chunks: Iterator[bytes]) -> tuple[FileMeta, Iterator[bytes]]:
    """Reads File Meta Information; the data set is what is left of ``chunks``. Raises Part10Error."""
    head = _at_least(_GROUP_LENGTH_END, bytearray(), chunks)
    if head[128:_GROUP_LENGTH_AT] != b"DICM":
        raise Part10Error("it is no DICOM file")
    if head[_GROUP_LENGTH_AT : _GROUP_LENGTH_END - 4] != _GROUP_LENGTH_TAG:
        raise Part10Error("it is without File Meta Information Group Length (0002,0000)")
    end = _GROUP_LENGTH_END + int.from_bytes(head[_GROUP_LENGTH_END - 4 : _GROUP_LENGTH_END], "little")
    if end > _LONGEST_META:
        raise Part10Error(f"its File Meta Information claims {end} bytes")
    head = _at_least(end, head, chunks)
    try:
        meta = dcmread(BytesIO(bytes(head[:end]))).file_meta
    except Exception as error:  # pydicom may raise anything of what is no DICOM
        raise Part10Error(f"its File Meta Information: {type(error).__name__}") from error
    said = FileMeta(*(str(meta.get(keyword, "")) for keyword in _KEYWORDS))
    return said, chain((bytes(head[end:]),), chunks)


_KEYWORDS = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")


def _at_least(count: int, head: bytearray, chunks: Iterator[bytes]) -> bytearray:
    while len(head) < count:
        chunk = next(chunks, None)
        if chunk is None:
            raise Part10Error("it ends within its File Meta Information")
        head += chunk
    return head
