"""An acknowledged instance has its file and its row, whatever happened in between."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from node.files import DataFolder
from node.receive import incoming as coming
from node.receive.answer import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS
from node.receive.journal import Journal
from node.receive.record import Arrival, Ledger
from node.receive.store import Store
from node.settings import Settings
from node.tables import Event, Instance, Quarantined, Series, Study
from tests.mr_slices import mr_slice
from tests.waiting import eventually


@pytest.fixture
def data(settings: Settings) -> DataFolder:
    return DataFolder(settings.node.data)


@pytest.fixture
def store(engine: Engine, data: DataFolder) -> Iterator[Store]:
    store = Store(engine, data, 0)
    yield store
    store.close()


def encoded(dataset: Dataset) -> bytes:
    content = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert content
    return content


def keep(store: Store, dataset: Dataset, transfer_syntax: str = "1.2.840.10008.1.2.1") -> int:
    incoming = store.open(dataset.SOPClassUID, dataset.SOPInstanceUID, transfer_syntax)
    incoming.write(encoded(dataset))
    return store.keep(incoming, dataset.SOPClassUID, "PACS@127.0.0.1", lambda _: None).status


def rows(engine: Engine) -> Sequence[Instance]:
    with Session(engine) as session:
        return session.scalars(select(Instance).order_by(Instance.id)).all()


def test_after_a_crash_rows_and_files_come_from_the_journal(engine, data):
    """The power failed: whatever was not fsynced is gone, files in folders and their names too."""
    before = Store(engine, data, 0)
    before.close()
    sent = [mr_slice("t1", number) for number in range(1, 6)]
    assert [keep(before, one) for one in sent] == [SUCCESS] * 5
    assert rows(engine) == []
    shutil.rmtree(data.root / "studies")
    Store(engine, data, 0).close()
    found = rows(engine)
    assert {row.sop_instance_uid for row in found} == {str(one.SOPInstanceUID) for one in sent}
    by_uid = {str(one.SOPInstanceUID): encoded(one) for one in sent}
    for row in found:
        content = (data.root / row.path).read_bytes()
        assert len(content) == row.size
        assert content.endswith(by_uid[row.sop_instance_uid])
        assert row.digest == hashlib.sha256(by_uid[row.sop_instance_uid]).hexdigest()
    assert list(data.journal.iterdir()) == []


def test_what_has_its_row_already_is_not_recorded_twice(engine, data):
    before = Store(engine, data, 0)
    assert keep(before, mr_slice("t1", 1)) == SUCCESS
    assert before.settle(20)
    assert len(list(before._journal.left())) == 1
    Store(engine, data, 0).close()  # as if the other had been killed
    assert [row.version for row in rows(engine)] == [1]


def versions(engine: Engine) -> list[tuple[int, bool]]:
    return [(row.version, row.current) for row in rows(engine)]


ONE, OTHER = mr_slice("t1", 1), mr_slice("t1", 1, PatientWeight=70)


@pytest.mark.parametrize(
    ("sent", "stand"),
    [([ONE, OTHER], [(1, False), (2, True)]), ([ONE, OTHER, ONE], [(1, True), (2, False)]),
     ([ONE, OTHER, ONE, OTHER], [(1, False), (2, True)])],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_word_counts_and_what_a_crash_has_repeated_is_none(engine, data, sent, stand, at_once):
    before = Store(engine, data, 0)
    for one in sent:
        assert keep(before, one) == SUCCESS
        assert at_once or before.settle(20)
    assert before.settle(20)
    assert versions(engine) == stand
    with Session(engine) as session:
        events = len(session.scalars(select(Event)).all())
    assert len(list(before._journal.left())) == len(sent)
    Store(engine, data, 0).close()  # as if the other had been killed
    assert versions(engine) == stand
    with Session(engine) as session:
        assert len(session.scalars(select(Event)).all()) == events


def test_the_last_word_counts_though_only_the_journal_knows_of_it(engine, data, monkeypatch):
    """In the order in which they came, whatever the order of the journal's segments."""
    before = Store(engine, data, 0)
    before.close()
    assert [keep(before, one) for one in (ONE, OTHER, ONE)] == [SUCCESS] * 3
    left = Journal.left
    monkeypatch.setattr(Journal, "left", lambda journal: reversed(list(left(journal))))
    Store(engine, data, 0).close()
    assert versions(engine) == [(1, True), (2, False)]


def test_an_orderly_end_leaves_an_empty_journal(engine, data):
    store = Store(engine, data, 0)
    assert keep(store, mr_slice("t1", 1)) == SUCCESS
    store.close()
    assert len(rows(engine)) == 1
    assert list(store._journal.left()) == []


def test_a_quiet_journal_is_emptied(engine, data, store):
    assert keep(store, mr_slice("t1", 1)) == SUCCESS
    eventually(lambda: not list(store._journal.left()))
    with Session(engine) as session, session.begin():  # only now may rows go without coming back
        for table in (Instance, Series, Event, Study):
            session.execute(delete(table))
    store.close()
    Store(engine, data, 0).close()
    assert rows(engine) == []


def test_a_large_instance_goes_to_the_disk_on_its_own(engine, data, store, monkeypatch):
    monkeypatch.setattr(coming, "LARGEST_HELD", 1000)
    assert keep(store, mr_slice("t1", 1)) == SUCCESS
    assert len(rows(engine)) == 1, "its row was waited for"
    assert list(store._journal.left()) == []


def test_what_holds_no_pixels_is_in_quarantine_and_nobody_answers_for_it(engine, store):
    """JPIP: they would have to be fetched elsewhere, and may be gone there when they are asked for."""
    sent = mr_slice("t1", 1)
    del sent.PixelData
    assert keep(store, sent, "1.2.840.10008.1.2.4.94") == CANNOT_UNDERSTAND
    assert not rows(engine)
    with Session(engine) as session:
        quarantined = session.scalars(select(Quarantined)).one()
    assert "JPIP" in quarantined.reason and quarantined.claimed_study


def test_what_cannot_be_recorded_is_in_quarantine_and_costs_the_others_nothing(engine, data, monkeypatch):
    bad, *good = (mr_slice("t1", number) for number in range(1, 5))
    write = Ledger.write

    def picky(ledger: Ledger, batch: Sequence[Arrival]) -> None:
        if any(arrival.identity.sop_instance_uid == bad.SOPInstanceUID for arrival in batch):
            raise ValueError("not for this table")
        write(ledger, batch)

    monkeypatch.setattr(Ledger, "write", picky)
    store = Store(engine, data, 0)
    assert [keep(store, one) for one in (bad, *good)] == [SUCCESS] * 4
    assert store.settle(20)
    assert {row.sop_instance_uid for row in rows(engine)} == {str(one.SOPInstanceUID) for one in good}
    with Session(engine) as session:
        [refused] = session.scalars(select(Quarantined))
    assert refused.claimed_study == bad.StudyInstanceUID
    assert (data.root / refused.path).is_file()
    assert store.problem is None
    store.close()


def test_a_journal_that_cannot_be_written_is_told(engine, data, store, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwritev", full)
        assert keep(store, mr_slice("t1", 1)) == OUT_OF_RESOURCES
    assert [path for path in (data.root / "studies").rglob("*") if path.is_file()] == []
    assert keep(store, mr_slice("t1", 1)) == SUCCESS


def test_bytes_that_the_disk_lost_behind_the_answer_are_written_again(engine, data, store, monkeypatch):
    """After an fsync that failed, the kernel may drop the pages, and the next fsync of the file says success."""
    sent = mr_slice("t1", 1)
    lost: list[Path] = []

    def once(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.suffix == ".dcm" and path.is_relative_to(data.root.resolve()) and not lost:  # not another test's
            lost.append(path)
            os.truncate(path, 1000)
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", once)
    assert keep(store, sent) == SUCCESS
    eventually(lambda: lost)
    eventually(lambda: lost[0].read_bytes().endswith(encoded(sent)))


def test_a_study_removed_by_hand_holds_up_nobody(engine, data, store):
    assert keep(store, mr_slice("t1", 1)) == SUCCESS
    assert store.settle(20)
    shutil.rmtree(data.root / "studies")
    assert keep(store, mr_slice("t1", 2)) == SUCCESS
    assert store.settle(20)
    assert (data.root / rows(engine)[-1].path).is_file()
    eventually(lambda: not list(store._journal.left()))
