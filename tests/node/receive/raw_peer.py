"""A peer that sends any bytes it likes: DICOM PDUs by hand (PS3.8 section 9.3), without a library that would object."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Self

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
MR, VERIFICATION = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.1"
CONTEXTS = ((MR, EXPLICIT), (VERIFICATION, EXPLICIT))
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(content)) + content


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def associate_request(
    called: str = "QUARTERDOSE", calling: str = "PACS", contexts: tuple[tuple[str, ...], ...] = ((MR, EXPLICIT),),
    user_items: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ PDU. Each context: the SOP class, then transfer syntaxes; their IDs are 1, 3, 5, ..."""
    proposed = b"".join(
        item(
            0x20,
            struct.pack(">B3x", 2 * number + 1) + item(0x30, sop_class.encode())
            + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for number, (sop_class, *syntaxes) in enumerate(contexts)
    )  # fmt: skip
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4") + user_items)
    head = struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    return pdu(1, head + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + user)


def value(context_id: int, control: int, content: bytes) -> bytes:
    """A presentation data value; control: 1 command, 2 last (so 3 is a whole command, 2 the end of a data set)."""
    return struct.pack(">IBB", len(content) + 2, context_id, control) + content


def element(number: int, content: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(content)) + content


def store_command(
    sop_class: str = MR, instance: str = "1.2.3", message_id: int = 1, data_set: int = 0, priority: int = 0
) -> bytes:
    body = (
        element(0x0002, _uid(sop_class)) + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", message_id)) + element(0x0700, struct.pack("<H", priority))
        + element(0x0800, struct.pack("<H", data_set)) + element(0x1000, _uid(instance))
    )  # fmt: skip
    return element(0x0000, struct.pack("<I", len(body))) + body


def echo_command(message_id: int = 1) -> bytes:
    body = (
        element(0x0002, _uid(VERIFICATION)) + element(0x0100, struct.pack("<H", 0x30))
        + element(0x0110, struct.pack("<H", message_id)) + element(0x0800, struct.pack("<H", 0x0101))
    )  # fmt: skip
    return element(0x0000, struct.pack("<I", len(body))) + body


def _uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def command_elements(content: bytes) -> dict[int, bytes]:
    """The elements of a command set by number."""
    found, position = {}, 0
    while position < len(content):
        _, number, length = struct.unpack_from("<HHI", content, position)
        found[number] = content[position + 8 : position + 8 + length]
        position += 8 + length
    return found


class RawPeer:
    """One connection. ``receive`` gives (PDU type, content), or (0, b"") when the other side has closed or reset it."""

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection((host, port), timeout=20)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def associate(self, **request: object) -> int:
        """Ask for an association; the type of the answer."""
        self.send(associate_request(**request))  # type: ignore[arg-type]
        return self.receive()[0]

    def store(self, data: bytes, **command: object) -> None:
        """A C-STORE request on context 1 in two PDUs."""
        self.send(pdu(P_DATA, value(1, 3, store_command(**command))))  # type: ignore[arg-type]
        self.send(pdu(P_DATA, value(1, 2, data)))

    def receive(self) -> tuple[int, bytes]:
        try:
            head = self._exactly(6)
            if len(head) < 6:
                return 0, b""
            kind, length = struct.unpack(">BxI", head)
            return kind, self._exactly(length)
        except ConnectionError:
            return 0, b""

    def answer(self) -> dict[int, bytes] | int:
        """The command set of the next message, or the type of another PDU."""
        kind, content = self.receive()
        return command_elements(content[6:]) if kind == P_DATA else kind

    def status(self) -> int:
        """The status of the next answer; more than any status (0x10000 and the PDU type) when none comes."""
        answer = self.answer()
        return struct.unpack("<H", answer[0x0900])[0] if isinstance(answer, dict) else 0x10000 + answer

    def _exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            got = self.socket.recv(count - len(parts))
            if not got:
                return b""
            parts += got
        return parts
