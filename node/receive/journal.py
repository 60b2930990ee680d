"""The journal: where an instance is durable before its file and its row are.

A file of its own, its entry in a folder and a row are three waits for the disk, for each instance. Here instances are
appended to a segment, a file that is written over and over, and one fdatasync makes all durable that associations have
brought meanwhile; then success is answered. Files and rows follow in batches (``node.receive.clerk``). When all
instances of a full segment have both, it is free to be written again. After a crash the segments still hold whatever
may lack one of the two.

A segment begins with a page that names its generation, a random number; each record begins at a page and names it too,
so that what a segment held before is never taken for something new. Records that were still being written when the
machine stopped are recognised by their checksums and left out: nobody was told that they were stored.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import struct
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from node.files import sync
from node.receive.group_commit import GroupCommit

_SEGMENT = 64 << 20
_SEGMENTS = 4  # then appending waits until one is free
_WAIT_SECONDS = 10.0
_PAGE = 4096
_MAGIC = b"QDOSE-J1"
_GENERATION = 16
# A record: magic, generation, lengths of note, head (preamble and File Meta Information) and data set, SHA-256 of all
# but the data set; then note, head, data set. The data set's own digest is in the note.
_RECORD = struct.Struct(f"<8s{_GENERATION}sIIQ32s")


class Segment:
    """One file of the journal. ``unsettled``: records in it that are being written or have no row yet; ``doubtful``:
    its files were to be made durable once and were not; ``broken``: itself. Raises OSError; then there is no file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            self.begin()
            sync(path.parent)
        except OSError:
            os.close(self.descriptor)
            path.unlink()
            raise

    def begin(self) -> None:
        """A new generation, from the start. It is on the disk with the first record at the latest. Raises OSError."""
        self.generation = os.urandom(_GENERATION)
        self.position = _PAGE
        self.unsettled = 0
        self.files: list[Path] = []
        self.doubtful = self.broken = False
        _write(self.descriptor, 0, _MAGIC + self.generation)

    def forget(self) -> None:
        """All that is in it is safe elsewhere. Raises OSError."""
        _write(self.descriptor, 0, bytes(len(_MAGIC)))
        os.fdatasync(self.descriptor)


@dataclass(frozen=True)
class Kept:
    """A file in the journal, and where its bytes lie: until it is settled, nothing else does there. ``final``: the path
    that it is to be written as."""

    segment: Segment
    position: int
    size: int
    final: Path

    def read(self) -> bytes:
        """The file. Raises OSError, also where the disk gives less than was written."""
        file = os.pread(self.segment.descriptor, self.size, self.position)
        if len(file) < self.size:
            raise OSError(errno.EIO, f"the journal has {len(file)} of {self.size} bytes")
        return file


class Journal:
    """For many threads. ``folder`` is there, and durably so."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free: list[Segment] = []
        self._full: list[Segment] = []
        self._current: Segment | None = None
        self._changed = threading.Condition()
        self._tidying = threading.Lock()
        self._syncs = GroupCommit(_sync)

    def left(self) -> Iterator[Record]:
        """What an earlier process left here, to be read before anything is appended."""
        for path in sorted(self._folder.iterdir()):
            yield from records(path)

    def clear(self) -> None:
        """Remove what an earlier process left: it is safe elsewhere now."""
        for path in self._folder.iterdir():
            path.unlink()
        sync(self._folder)

    def append(self, note: bytes, file: bytes | bytearray, content_start: int, final: Path) -> Kept:
        """Make a small file durable whose data set begins at ``content_start``. Raises OSError.

        What it gives is to be given to ``settle`` when the file is written as ``final`` and has its row.
        """
        kept = self.write(note, file, content_start, final, _WAIT_SECONDS)
        self.sync([kept])
        return kept

    def write(
        self, note: bytes, file: bytes | bytearray, content_start: int, final: Path, wait_seconds: float = 0.0
    ) -> Kept:  # fmt: skip
        """The first half of ``append``, to be followed by ``sync``. Raises OSError, also when there is no place for it
        after ``wait_seconds``."""
        segment, position = self._reserve(_RECORD.size + len(note) + len(file), wait_seconds)
        kept = Kept(segment, position + _RECORD.size + len(note), len(file), final)
        try:
            lengths = len(note), content_start, len(file) - content_start
            seal = _seal(segment.generation, lengths, note, bytes(file[:content_start]))
            head = _RECORD.pack(_MAGIC, segment.generation, *lengths, seal)
            _write(segment.descriptor, position, head + note, file)
        except BaseException:
            self.settle([kept])
            raise
        return kept

    def sync(self, written: Sequence[Kept]) -> None:
        """Make these durable. Raises OSError; then none of them counts, and all are settled."""
        try:
            for segment in {kept.segment for kept in written}:
                self._syncs.commit(segment)
        except BaseException:  # or the segment could never be used again
            self.settle(written)
            raise
        for kept in written:
            kept.segment.files.append(kept.final)


    def settle(self, done: Sequence[Kept]) -> None:
        """These have their file and their row, or will have neither."""
        with self._changed:
            for kept in done:
                kept.segment.unsettled -= 1
                if kept.segment.broken:
                    self._changed.notify_all()

    def tidy(self, settle_files: SettleFiles, *, current_too: bool) -> None:
        """Free the segments whose records all have rows, once ``settle_files`` has made their files durable.

        When that failed, the next call gives it the records as well: what could not be written may be gone from memory,
        and the next fsync of the same file may say success all the same. ``current_too``: also the segment that is
        written to, which is of use where nothing comes. Raises OSError; the next call tries again.
        """
        with self._tidying:
            for segment in self._settled(current_too):
                again = records(segment.path) if segment.doubtful else ()
                segment.doubtful = True
                settle_files(segment.files, again)
                segment.forget()
                segment.begin()
                with self._changed:
                    self._full.remove(segment)
                    self._free.append(segment)
                    self._changed.notify_all()

    def _settled(self, current_too: bool) -> list[Segment]:
        with self._changed:
            if current_too and self._current is not None and self._current.position > _PAGE:
                self._full.append(self._current)
                self._current = None
            unused = self._unused()  # are begun again when one is needed, which must not happen twice at once
            return [segment for segment in self._full if not segment.unsettled and segment not in unused]

    def _reserve(self, size: int, wait_seconds: float) -> tuple[Segment, int]:
        pages = -(-size // _PAGE) * _PAGE
        with self._changed:
            if self._current is not None and (self._current.broken or self._current.position + pages > _SEGMENT):
                self._full.append(self._current)
                self._current = None
            if self._current is None:
                self._current = self._next(wait_seconds)
            segment, position = self._current, self._current.position
            segment.position += pages
            segment.unsettled += 1
        return segment, position

    def _next(self, wait_seconds: float) -> Segment:
        if not (self._free or self._unused()) and len(self._full) < _SEGMENTS:
            return Segment(self._folder / uuid.uuid4().hex)
        if not self._changed.wait_for(lambda: self._free or self._current or self._unused(), wait_seconds):
            raise OSError(errno.ENOSPC, "the journal is full: files or rows cannot be written")
        if self._current is not None:
            return self._current
        if self._free:
            return self._free.pop(0)  # the one that was full first: to overwrite is less work than to append
        segment = self._unused()[0]
        segment.begin()
        self._full.remove(segment)
        return segment

    def _unused(self) -> list[Segment]:
        """Broken ones of whose records nobody was told that they are stored."""
        return [segment for segment in self._full if segment.broken and not segment.unsettled and not segment.files]


@dataclass(frozen=True)
class Record:
    """One instance in the journal: what its row needs, the file's first bytes, and the data set."""

    note: bytes
    head: bytes
    content: bytes


SettleFiles = Callable[[Sequence[Path], Iterable[Record]], None]
"""Makes files durable, of which it writes those of the records again before."""


def records(path: Path) -> Iterator[Record]:
    """What is whole in a segment. The data sets are as the disk has them: their digests are the caller's to compare."""
    size = path.stat().st_size
    if size <= _PAGE:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        generation = data[len(_MAGIC) : len(_MAGIC) + _GENERATION]
        if data[: len(_MAGIC)] != _MAGIC:
            return
        position = _PAGE
        while position + _RECORD.size <= size:
            record = _record(data, position, generation)
            length = 0
            if record is not None:
                yield record
                length = _RECORD.size + len(record.note) + len(record.head) + len(record.content)
            position += max(-(-length // _PAGE), 1) * _PAGE


def _record(data: mmap.mmap, position: int, generation: bytes) -> Record | None:
    magic, of, *lengths, seal = _RECORD.unpack_from(data, position)
    if magic != _MAGIC or of != generation:
        return None
    ends = [position + _RECORD.size + sum(lengths[:count]) for count in range(4)]
    if ends[-1] > len(data):
        return None
    note, head, content = (data[start:end] for start, end in pairwise(ends))
    return Record(note, head, content) if seal == _seal(generation, lengths, note, head) else None


def _seal(generation: bytes, lengths: Sequence[int], note: bytes, head: bytes) -> bytes:
    return hashlib.sha256(generation + repr(tuple(lengths)).encode() + note + head).digest()


def _write(descriptor: int, position: int, *parts: bytes | bytearray) -> None:
    left = [memoryview(part) for part in parts]
    while left:
        written = os.pwritev(descriptor, left, position)
        position += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left:
            left[0] = left[0][written:]


def _sync(segments: Sequence[Segment]) -> None:
    """After a failure the kernel may forget what it could not write, the segment's first page too, and say success the
    next time: nothing more is believed of this segment until it is begun again."""
    for segment in set(segments):
        if segment.broken:
            raise OSError(errno.EIO, "an earlier write to the same segment of the journal has failed")
        try:
            os.fdatasync(segment.descriptor)
        except OSError:
            segment.broken = True
            raise
