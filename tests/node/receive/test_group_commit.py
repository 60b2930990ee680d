"""Many wait for one fsync; nobody is told success before it is over, and all of them what it failed of."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence

from node.receive.group_commit import GroupCommit


def at_once(count: int, work: Callable[[int], None]) -> list[Exception | None]:
    """What each of so many threads raised."""
    raised: list[Exception | None] = [None] * count

    def run(number: int) -> None:
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - shown to the test
            raised[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return raised


def test_those_that_come_meanwhile_are_written_together():
    batches: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def write(batch: Sequence[int]) -> None:
        batches.append(list(batch))
        begun.set()
        assert go_on.wait(20)

    commits = GroupCommit(write)
    first = threading.Thread(target=commits.commit, args=(0,))
    first.start()
    begun.wait(20)
    others = [threading.Thread(target=commits.commit, args=(number,)) for number in range(1, 9)]
    for thread in others:
        thread.start()
    while len(commits._waiting) < 8:
        pass
    assert all(thread.is_alive() for thread in others), "nobody has been told anything yet"
    go_on.set()
    for thread in (first, *others):
        thread.join(20)
    assert batches[0] == [0]
    assert sorted(batches[1]) == list(range(1, 9))


def test_one_at_a_time_and_each_exactly_once():
    written: list[int] = []
    busy = threading.Lock()

    def write(batch: Sequence[int]) -> None:
        assert busy.acquire(blocking=False)
        written.extend(batch)
        busy.release()

    commits = GroupCommit(write)

    def commit(number: int) -> None:
        for n in range(50):
            commits.commit(100 * number + n)

    assert at_once(16, commit) == [None] * 16
    assert sorted(written) == sorted(100 * number + n for number in range(16) for n in range(50))


def test_what_keeps_a_batch_from_the_disk_is_told_to_each_of_it_and_to_nobody_else():
    together = threading.Barrier(9, timeout=20)
    error = OSError(errno.EIO, "the disk is broken")

    def write(batch: Sequence[int]) -> None:
        if batch == [-1]:
            together.wait()  # until all others wait
            while len(commits._waiting) < 8:
                pass
        elif batch != [8]:
            raise error

    commits: GroupCommit[int] = GroupCommit(write)
    leader = threading.Thread(target=commits.commit, args=(-1,))
    leader.start()

    def commit(number: int) -> None:
        together.wait()
        commits.commit(number)

    assert at_once(8, commit) == [error] * 8
    leader.join(20)
    commits.commit(8)
