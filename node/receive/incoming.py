"""One data set on its way to the disk."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from node.derive.provenance import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from node.files import write_all

PREAMBLE = bytes(128) + b"DICM"


LARGEST_HELD = 1 << 20
"""Bytes; what is larger goes through a file of its own, so that 1 GB takes no more memory than one slice."""


class Incoming:
    """File Meta Information (PS3.10 section 7.1) and the data set as sent: in memory while it is small, then in a
    temporary file of a unique name.

    ``content_start``: where the data set begins; ``digest``: its SHA-256, hex, once it is complete. ``check_space``
    raises OSError when the disk should take no more; it is asked while a file grows. An OSError while writing is kept
    for ``check``: the rest of the data set has to be read from the network all the same.
    """

    def __init__(
        self, folder: Path, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str,
        check_space: Callable[[], None],
    ) -> None:  # fmt: skip
        self.transfer_syntax_uid = transfer_syntax_uid
        head = PREAMBLE + file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        self.content_start = self.size = len(head)
        self._hash = hashlib.sha256()
        self._error: OSError | None = None
        self._held: bytearray | None = bytearray(head)
        self._folder = folder
        self._check_space = check_space
        self._descriptor = -1

    @cached_property
    def path(self) -> Path:
        """Where it lies while it is too large for memory."""
        return self._folder / uuid.uuid4().hex

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def held(self) -> bytearray | None:
        """All of it, while it is small; None when it is in a file."""
        return self._held

    def stays_held(self, count: int) -> bool:
        """Whether it is in memory, and still will be with so many bytes more."""
        return self._held is not None and len(self._held) + count <= LARGEST_HELD

    def write(self, fragment: memoryview | bytes) -> None:
        """The next bytes of the data set."""
        if self._error is not None:
            return
        try:
            if self._held is not None and not self.stays_held(len(fragment)):
                self._spill()
            if self._held is not None:
                self._held += fragment
            else:
                self._check_space()
                write_all(self._descriptor, fragment)
        except OSError as error:
            self._error = error
            self.close()  # at once: the disk is full, say
            return
        self._hash.update(fragment)
        self.size += len(fragment)

    def check(self) -> None:
        """Everything has come. Raises the OSError that writing it met."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def view(self) -> Iterator[bytearray | mmap.mmap]:
        """What there is, to be looked at."""
        if self._held is not None:
            yield self._held
            return
        with mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ) as data:
            yield data

    def complete(self) -> None:
        """Onto the disk with it. Raises OSError."""
        self.check()
        if self._held is not None:
            self._spill()
        os.fsync(self._descriptor)

    def move_to(self, final: Path) -> None:
        """Give the file its name, in the place of what is there; to be ``complete`` before. Raises OSError."""
        self.path.replace(final)

    def close(self) -> None:
        """Let go of it; without a final name it is gone."""
        self._held = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self.path.unlink(missing_ok=True)

    def _spill(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        held, self._held = self._held, None
        write_all(self._descriptor, held or b"")


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """File Meta Information as explicit little endian. The UIDs must be ASCII of at most 64 characters."""
    elements = b"".join((
        struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
        _short(0x0002, b"UI", sop_class_uid), _short(0x0003, b"UI", sop_instance_uid),
        _short(0x0010, b"UI", transfer_syntax_uid), _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _short(0x0013, b"SH", IMPLEMENTATION_VERSION),
    ))  # fmt: skip
    return struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\x00" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
