"""The two command sets of a C-STORE, read and written without decoding anything else (DICOM PS3.7 section 9.3.1)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from node.receive.answer import Answer

_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_SOP_CLASS, _COMMAND, _MESSAGE_ID, _RESPONDED_TO, _PRIORITY, _DATA_SET_TYPE, _STATUS, _COMMENT, _SOP_INSTANCE = (
    0x0002, 0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x0902, 0x1000,
)  # fmt: skip
# Retired or optional ones besides: group length, Move Originator AE title and Message ID.
_ALLOWED = {0x0000, _SOP_CLASS, _COMMAND, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE, _SOP_INSTANCE, 0x1030, 0x1031}
_UID = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_HEAD = struct.Struct("<HHI")


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE-RQ that announces a data set."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def store_request(command: bytes, context_id: int) -> StoreRequest | None:
    """Read a command set. None for any other command, and for a C-STORE request that is not plainly in order."""
    values: dict[int, bytes] = {}
    position = 0
    while position < len(command):
        if position + 8 > len(command):
            return None
        group, element, length = _HEAD.unpack_from(command, position)
        position += 8 + length
        if group != 0 or element not in _ALLOWED or element in values or position > len(command):
            return None
        values[element] = command[position - length : position]
    numbers = [_number(values, tag) for tag in (_COMMAND, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE)]
    uids = [_uid(values, tag) for tag in (_SOP_CLASS, _SOP_INSTANCE)]
    if None in numbers or None in uids or numbers[0] != _C_STORE_RQ or numbers[3] == _NO_DATA_SET:
        return None
    if numbers[2] not in (0, 1, 2):
        return None
    return StoreRequest(context_id, numbers[1] or 0, uids[0] or "", uids[1] or "")


def store_response(request: StoreRequest, answer: Answer) -> bytes:
    """The whole P-DATA-TF PDU of a C-STORE-RSP."""
    comment = answer.short_comment.encode()
    elements = [
        _element(_SOP_CLASS, _padded(request.sop_class_uid.encode(), b"\x00")),
        _element(_COMMAND, struct.pack("<H", _C_STORE_RSP)),
        _element(_RESPONDED_TO, struct.pack("<H", request.message_id)),
        _element(_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        _element(_STATUS, struct.pack("<H", answer.status)),
        *([_element(_COMMENT, _padded(comment, b" "))] if comment else []),
        _element(_SOP_INSTANCE, _padded(request.sop_instance_uid.encode(), b"\x00")),
    ]
    body = b"".join(elements)
    command = _element(0x0000, struct.pack("<I", len(body))) + body
    return struct.pack(">BxIIBB", 0x04, len(command) + 6, len(command) + 2, request.context_id, 0x03) + command


def _number(values: dict[int, bytes], element: int) -> int | None:
    value = values.get(element, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else None


def _uid(values: dict[int, bytes], element: int) -> str | None:
    value = values.get(element, b"").removesuffix(b"\x00")
    return value.decode() if len(value) <= 64 and _UID.fullmatch(value) else None


def _element(element: int, value: bytes) -> bytes:
    return _HEAD.pack(0x0000, element, len(value)) + value


def _padded(value: bytes, pad: bytes) -> bytes:
    return value + pad * (len(value) % 2)
