"""A short run of benchmarks.fuzz_receiver: 20,000 cases take minutes, these some seconds."""

from __future__ import annotations

from benchmarks.fuzz_receiver import Faults, fuzz
from tests.node.receive.conftest import StartReceiver

CASES = 300
POOLED_CONNECTIONS = 15  # of the database, each with a descriptor of its file, its log and its index


def test_mutated_messages_leave_nothing_behind(start_receiver: StartReceiver):
    node = start_receiver(network_timeout_seconds=2.0, request_timeout_seconds=2.0)
    with Faults() as faults:
        before, after, echo = fuzz(node.port, node.settings.node.data / "incoming", CASES, seed=7, at_once=4)
    assert faults.seen == []
    assert (after.threads, after.unfinished) == (0, 0)
    assert after.descriptors <= before.descriptors + 3 * POOLED_CONNECTIONS
    assert echo < 5, "on a busy machine"
