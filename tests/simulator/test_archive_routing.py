"""Routing by the archive: what is sent on, when, and what is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt

from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.simulator.archive_peers import instance, listening, store
from tests.waiting import eventually


def test_a_quiet_study_is_routed_once_and_late_instances_follow(tmp_path: Path) -> None:
    with listening() as node, Archive("ARCHIVE", 0, tmp_path, route_to=[node.peer], quiet_seconds=0.3) as archive:
        store(archive, instance(0), instance(1))
        eventually(lambda: len(node.received) == 2)
        store(archive, instance(1), instance(2))
        eventually(lambda: len(node.received) == 3)
        time.sleep(0.8)
        assert sorted(node.received) == sorted(str(instance(number).SOPInstanceUID) for number in range(3))


def test_the_product_s_own_series_is_not_routed_back(tmp_path: Path) -> None:
    with listening() as node, Archive("ARCHIVE", 0, tmp_path, route_to=[node.peer], quiet_seconds=0.2) as archive:
        store(archive, instance(9, Manufacturer="Quarterdose"), instance(0))
        eventually(lambda: bool(node.received))
        time.sleep(0.5)
        assert node.received == [instance(0).SOPInstanceUID]


def test_a_destination_that_was_down_gets_it_later(tmp_path: Path) -> None:
    with listening() as first:
        peer = first.peer
    with Archive("ARCHIVE", 0, tmp_path, route_to=[peer], quiet_seconds=0.2) as archive:
        store(archive, instance(0))
        time.sleep(0.6)
        taken: list[str] = []
        entity = AE(peer.ae_title)
        entity.add_supported_context(MRImageStorage)

        def take(event: evt.Event) -> int:
            taken.append(str(event.request.AffectedSOPInstanceUID))
            return 0x0000

        server = entity.start_server(("127.0.0.1", peer.port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
        eventually(lambda: bool(taken))
        server.shutdown()
        assert taken == [instance(0).SOPInstanceUID]


@pytest.mark.parametrize("text", ["QUARTERDOSE", "@127.0.0.1:104", "A@:104", "A@host:http", "SEVENTEEN_LETTERS@h:1"])
def test_a_peer_that_is_not_written_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="AE@host:port"):
        Peer.parse(text)
