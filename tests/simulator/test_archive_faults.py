"""Every fault that the archive can be ordered to show, seen from the other side of the wire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.archive.faults import FaultOrder, Faults
from simulator.archive.server import Archive
from tests.simulator.archive_peers import (
    STUDY,
    Listener,
    ask_for_commitment,
    dcmtk,
    instance,
    listening,
    move,
    store,
    uids,
)
from tests.waiting import eventually


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive("ARCHIVE", 0, tmp_path / "archive") as one:
        yield one


@pytest.fixture
def node() -> Iterator[Listener]:
    with listening() as one:
        yield one


def test_refused_associations(archive: Archive) -> None:
    archive.order(Faults(refuse_associations=2))
    assert [store(archive, instance(0))[0] for _ in range(3)] == [None, None, 0]


def test_out_of_resources(archive: Archive) -> None:
    archive.order(Faults(out_of_resources=2))
    assert store(archive, *[instance(number) for number in range(4)]) == [0xA700, 0xA700, 0, 0]
    assert len(archive.received()) == 2


def test_abort_in_mid_transfer(archive: Archive) -> None:
    archive.order(Faults(abort_after=2))
    sent = [instance(number) for number in range(4)]
    assert store(archive, *sent) == [0, 0, None, None]
    assert store(archive, *sent) == [0] * 4
    assert sorted(archive.received().values()) == [1, 1, 2, 2]


def test_hanging(archive: Archive) -> None:
    archive.order(Faults(hang_seconds=0.5))
    start = time.monotonic()
    assert store(archive, instance(0)) == [0]
    assert time.monotonic() - start >= 0.5


def test_routing_loses_an_instance_for_good(tmp_path: Path, node: Listener) -> None:
    with Archive("ARCHIVE", 0, tmp_path, route_to=[node.peer], quiet_seconds=0.5, faults=Faults(lose=1)) as archive:
        store(archive, instance(0), instance(1), instance(2))
        eventually(lambda: len(node.received) == 2)
        store(archive, instance(3))
        eventually(lambda: len(node.received) == 3)
        assert node.received == uids(0, 2, 3)
        assert len(archive.index.of_study(STUDY)) == 4
        assert archive.route(STUDY, node.peer).sent == ()


def test_a_move_loses_an_instance_and_the_next_one_does_not(archive: Archive, node: Listener) -> None:
    store(archive, *[instance(number) for number in range(3)])
    archive.add_peer(node.peer)
    archive.order(Faults(lose=1))
    lossy, whole = move(archive, "NODE"), move(archive, "NODE")
    assert (lossy.Status, lossy.NumberOfCompletedSuboperations) == (0x0000, 2)
    assert (whole.Status, whole.NumberOfCompletedSuboperations) == (0x0000, 3)
    assert node.received == uids(0, 2, 0, 1, 2)


def test_a_get_loses_an_instance(archive: Archive, tmp_path: Path) -> None:
    store(archive, *[instance(number) for number in range(3)])
    archive.order(Faults(lose=1))
    got = tmp_path / "got"
    got.mkdir()
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
    dcmtk("getscu", "-S", "-aec", "ARCHIVE", "-od", str(got), *keys, "127.0.0.1", str(archive.port))
    assert len(list(got.iterdir())) == 2


def test_a_move_can_lose_everything(archive: Archive, node: Listener) -> None:
    store(archive, instance(0))
    archive.add_peer(node.peer)
    archive.order(Faults(lose=5))
    moved = move(archive, "NODE")
    assert (moved.Status, moved.NumberOfCompletedSuboperations, node.received) == (0x0000, 0, [])


def test_the_last_slices_come_late_over_an_association_of_their_own(archive: Archive, node: Listener) -> None:
    store(archive, *[instance(number) for number in range(5)])
    archive.order(Faults(late_slices=2, late_seconds=0.8))
    start = time.monotonic()
    assert archive.route(STUDY, node.peer).sent == tuple(uids(0, 1, 2))
    assert archive.route(STUDY, node.peer).sent == ()
    eventually(lambda: len(node.received) == 5)
    assert time.monotonic() - start >= 0.8
    assert list(node.by_association.values()) == [uids(0, 1, 2), uids(3, 4)]


def test_every_study_is_late_once_for_each_destination() -> None:
    order = FaultOrder(Faults(late_slices=2, late_seconds=1))
    assert order.hold_back("first", []) == ()
    assert order.hold_back("first", [1, 2, 3]) == [2, 3]
    assert order.hold_back("first", [4, 5, 6]) == ()
    assert order.hold_back("second", [7]) == [7]


def test_a_study_is_split_over_associations(archive: Archive, node: Listener) -> None:
    store(archive, *[instance(number) for number in range(5)])
    archive.order(Faults(instances_per_association=2))
    assert archive.route(STUDY, node.peer).sent == tuple(uids(0, 1, 2, 3, 4))
    assert list(node.by_association.values()) == [uids(0, 1), uids(2, 3), uids(4)]


def test_a_move_reports_success_although_an_instance_was_not_sent(archive: Archive, node: Listener) -> None:
    store(archive, *[instance(number) for number in range(3)])
    archive.add_peer(node.peer)
    archive.order(Faults(feign_moves=1))
    for received in (uids(0, 2), uids(0, 2, 0, 1, 2)):
        final = move(archive, "NODE")
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 3)
        assert (final.NumberOfFailedSuboperations, final.NumberOfWarningSuboperations) == (0, 0)
        assert node.received == received


def test_a_commitment_is_never_reported(archive: Archive) -> None:
    store(archive, instance(0), instance(1))
    archive.order(Faults(withhold_commitments=1))
    with listening("SCANNER") as scanner:
        archive.add_peer(scanner.peer)
        assert [ask_for_commitment(archive, [number]) for number in (0, 1)] == [0x0000, 0x0000]
        eventually(lambda: scanner.reports)
        archive.stop()  # which waits for every report under way
    ((event_type, report),) = scanner.reports
    assert event_type == 1
    assert report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance(1).SOPInstanceUID


def test_a_commitment_is_reported_with_failures(archive: Archive) -> None:
    store(archive, instance(0), instance(1))
    archive.order(Faults(fail_commitments=1))
    with listening("SCANNER") as scanner:
        archive.add_peer(scanner.peer)
        ask_for_commitment(archive, [0, 1])
        eventually(lambda: len(scanner.reports) == 1)
        ask_for_commitment(archive, [0, 1])
        eventually(lambda: len(scanner.reports) == 2)
    (first, failures), (second, _) = scanner.reports
    assert (first, second) == (2, 1)
    (failed,), (committed,) = failures.FailedSOPSequence, failures.ReferencedSOPSequence
    assert [failed.ReferencedSOPInstanceUID, committed.ReferencedSOPInstanceUID] == uids(0, 1)
    assert failed.FailureReason == 0x0110


@pytest.mark.parametrize("wrong", [{"lose": -1}, {"hang_seconds": float("nan")}, {"late_seconds": float("inf")}])
def test_a_number_that_no_fault_can_have(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Faults(**wrong)  # type: ignore[arg-type]
