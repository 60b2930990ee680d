"""What is appended is there after any end; what was half written, or is of an earlier use of the segment, is not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.receive import journal as journals
from node.receive.journal import Journal, Kept, Record, records
from tests.waiting import eventually

HEAD = b"preamble and meta"


def append(journal: Journal, note: bytes, content: bytes) -> Kept:
    return journal.append(note, HEAD + content, len(HEAD), Path(f"final {note!r}"))


def opened(folder: Path) -> Journal:
    folder.mkdir(exist_ok=True)
    return Journal(folder)


def held(journal: Journal) -> list[tuple[bytes, bytes]]:
    return [(record.note, record.content) for record in journal.left()]


def only_segment(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(min_size=1, max_size=20_000)), max_size=8))
def test_what_is_appended_is_found_again_in_order(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("journal")
    journal = opened(folder / "j")
    for note, content in items:
        append(journal, note, content)
    assert held(opened(folder / "j")) == items


def test_the_file_is_kept_with_its_head(tmp_path):
    journal = opened(tmp_path / "j")
    append(journal, b"note", b"data set")
    assert list(journal.left()) == [Record(b"note", HEAD, b"data set")]


def test_the_file_can_be_read_until_it_is_settled(tmp_path):
    journal = opened(tmp_path / "j")
    kept = [append(journal, b"note", bytes([number]) * 10_000) for number in range(3)]
    assert [one.read() for one in kept] == [HEAD + bytes([number]) * 10_000 for number in range(3)]
    os.truncate(only_segment(tmp_path / "j"), 9_000)
    with pytest.raises(OSError, match="of 10017 bytes"):
        kept[2].read()


def test_many_threads_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SEGMENT", 1 << 20)
    journal = opened(tmp_path / "j")

    def work(number: int) -> None:
        for count in range(10):
            append(journal, b"%d.%d" % (number, count), os.urandom(20_000))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    notes = sorted(record.note for record in opened(tmp_path / "j").left())
    assert notes == sorted(b"%d.%d" % (number, count) for number in range(8) for count in range(10))


@pytest.mark.parametrize("spoiled_at", [0, 20, 60, 75, 90])
def test_a_record_that_is_not_whole_is_left_out_and_costs_the_next_nothing(tmp_path, spoiled_at):
    """Records are written side by side: a later one may be durable, and acknowledged, before an earlier one."""
    journal = opened(tmp_path / "j")
    for note in (b"first", b"second", b"third"):
        append(journal, note, b"x" * 5000)
    path = only_segment(tmp_path / "j")
    content = bytearray(path.read_bytes())
    place = content.index(b"second") - journals._RECORD.size + spoiled_at
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert [record.note for record in journal.left()] == [b"first", b"third"]


def test_a_segment_that_ends_early_gives_what_is_whole(tmp_path):
    journal = opened(tmp_path / "j")
    for note in (b"first", b"second"):
        append(journal, note, b"x" * 5000)
    path = only_segment(tmp_path / "j")
    os.truncate(path, path.stat().st_size - 1)
    assert [record.note for record in records(path)] == [b"first"]


def test_what_is_settled_is_forgotten_and_its_segment_used_again(tmp_path):
    journal = opened(tmp_path / "j")
    settled: list[Path] = []

    def settle_files(paths: Sequence[Path], again: Iterable[Record]) -> None:
        assert list(again) == []
        settled.extend(paths)

    old = [append(journal, b"old %d" % number, b"x" * 9000) for number in range(3)]
    journal.tidy(settle_files, current_too=True)
    assert len(held(journal)) == 3, "none has its row"
    journal.settle(old)
    journal.tidy(settle_files, current_too=True)
    assert settled == [Path(f"final {note!r}") for note in (b"old 0", b"old 1", b"old 2")]
    assert held(journal) == []
    append(journal, b"new", b"y")
    assert held(journal) == [(b"new", b"y")], "the old records behind it are of another generation"
    assert only_segment(tmp_path / "j").stat().st_size > 20_000


def test_files_that_cannot_be_made_durable_keep_their_records(tmp_path):
    journal = opened(tmp_path / "j")
    journal.settle([append(journal, b"note", b"x")])

    written_again: list[bytes] = []

    def broken(_: Sequence[Path], again: Iterable[Record]) -> None:
        written_again.extend(record.note for record in again)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        journal.tidy(broken, current_too=True)
    assert written_again == []
    with pytest.raises(OSError, match="Input/output"):
        journal.tidy(broken, current_too=True)
    assert written_again == [b"note"], "the files are not trusted any more"
    assert held(journal) == [(b"note", b"x")]
    journal.tidy(lambda *_: None, current_too=True)
    assert held(journal) == []


def test_a_journal_without_room_says_so_until_there_is_some(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SEGMENT", 1 << 16)
    monkeypatch.setattr(journals, "_SEGMENTS", 2)
    monkeypatch.setattr(journals, "_WAIT_SECONDS", 0.05)
    journal = opened(tmp_path / "j")
    taken = [append(journal, b"note", bytes(40_000)) for _ in range(2)]
    with pytest.raises(OSError, match="journal is full"):
        append(journal, b"more", bytes(40_000))
    journal.settle(taken)
    journal.tidy(lambda *_: None, current_too=False)
    append(journal, b"more", bytes(40_000))
    assert (b"more", bytes(40_000)) in held(journal)


def refuses(_: int) -> None:
    """An fdatasync of a disk that is broken."""
    raise OSError(5, "Input/output error")


def test_a_disk_that_refuses_is_told(tmp_path, monkeypatch):
    journal = opened(tmp_path / "j")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", refuses)
        with pytest.raises(OSError, match="Input/output"):
            append(journal, b"lost", b"x")
    journal.settle([append(journal, b"kept", b"y")])
    journal.tidy(lambda *_: None, current_too=True)
    assert held(journal) == []


def write(journal: Journal, note: bytes, content: bytes) -> Kept:
    return journal.write(note, HEAD + content, len(HEAD), Path(f"final {note!r}"))


def test_many_are_made_durable_with_one_sync_or_none_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SEGMENT", 3 * 4096)  # two records each
    journal, syncs, real = opened(tmp_path / "j"), [], os.fdatasync

    def fails_the_second_time(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) == 2:
            raise OSError(5, "Input/output error")
        real(descriptor)

    written = [write(journal, b"%d" % number, b"x") for number in range(4)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails_the_second_time)
        with pytest.raises(OSError, match="Input/output"):
            journal.sync(written)
    assert len(syncs) == 2, "one for each segment"
    settled: list[Path] = []
    journal.tidy(lambda paths, _: settled.extend(paths), current_too=True)
    assert settled == [], "nobody has been told that these are stored"
    written = [write(journal, b"%d" % number, b"y") for number in range(2)]
    journal.sync(written)
    journal.settle(written)
    journal.tidy(lambda paths, _: settled.extend(paths), current_too=True)
    assert settled == [kept.final for kept in written]


def test_who_does_not_wait_is_told_at_once_that_there_is_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SEGMENT", 3 * 4096)
    monkeypatch.setattr(journals, "_SEGMENTS", 1)
    journal = opened(tmp_path / "j")
    taken = [write(journal, b"note", b"x") for _ in range(2)]
    began = time.monotonic()
    with pytest.raises(OSError, match="journal is full"):
        write(journal, b"more", b"x")
    assert time.monotonic() - began < 1
    journal.sync(taken)
    assert len(held(journal)) == 2


def test_nothing_more_is_believed_of_a_segment_that_could_not_be_synced(tmp_path, monkeypatch):
    """The kernel may forget what it could not write, here the segment's first page, and say success the next time."""
    journal = opened(tmp_path / "j")

    def lose(descriptor: int) -> None:
        os.pwrite(descriptor, bytes(4096), 0)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lose)
        for _ in range(9):
            with pytest.raises(OSError, match="Input/output"):
                append(journal, b"lost", b"x")
    began = time.monotonic()
    append(journal, b"kept", b"y")
    assert held(journal) == [(b"kept", b"y")]
    assert time.monotonic() - began < 5, "what was broken is begun again"
    assert len(list((tmp_path / "j").iterdir())) == 1


def test_what_is_stored_while_the_journal_is_tidied_is_kept(tmp_path, monkeypatch):
    """A broken segment may be begun again meanwhile, and is then not tidied any more."""
    monkeypatch.setattr(journals, "_SEGMENT", 3 * 4096)
    journal = opened(tmp_path / "j")
    journal.settle([append(journal, b"full", b"x" * 5000)])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", refuses)
        with pytest.raises(OSError, match="Input/output"):
            append(journal, b"lost", b"x")

    def store_meanwhile(paths: Sequence[Path], _: Iterable[Record]) -> None:
        assert paths == [Path(f"final {b'full'!r}")]
        append(journal, b"kept", b"y")

    journal.tidy(store_meanwhile, current_too=True)
    assert held(journal) == [(b"kept", b"y")]


def test_who_waits_behind_a_sync_that_fails_is_not_told_success(tmp_path, monkeypatch):
    journal = opened(tmp_path / "j")
    append(journal, b"first", b"a")
    errors: list[OSError] = []
    started, go = threading.Event(), threading.Event()

    def fail(_: int) -> None:
        started.set()
        assert go.wait(10)
        raise OSError(5, "Input/output error")

    def try_to(note: bytes) -> None:
        try:
            append(journal, note, b"x")
        except OSError as error:
            errors.append(error)

    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (real if started.is_set() else fail)(descriptor))
    threads = [threading.Thread(target=try_to, args=(note,)) for note in (b"second", b"third")]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    eventually(lambda: len(journal._syncs._waiting) == 1)
    go.set()
    for thread in threads:
        thread.join()
    assert [error.errno for error in errors] == [5, 5]
    append(journal, b"fourth", b"z")
    assert {(b"first", b"a"), (b"fourth", b"z")} <= set(held(journal))


def test_a_segment_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    journal = opened(tmp_path / "j")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        for _ in range(5):
            with pytest.raises(OSError, match="No space"):
                append(journal, b"lost", b"x")
    assert list((tmp_path / "j").iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    append(journal, b"kept", b"y")
    assert held(journal) == [(b"kept", b"y")]


def test_a_file_that_is_no_segment_holds_nothing(tmp_path):
    for number, content in enumerate((b"", b"x", bytes(10_000))):
        (tmp_path / str(number)).write_bytes(content)
        found: list[Record] = list(records(tmp_path / str(number)))
        assert found == []
