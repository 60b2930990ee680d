"""The simulator's archive as a peer of the node's listener and sender, with the faults that concern them."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite

from node.scu import StorageScu, echo
from node.sender import Outgoing, SendError
from simulator.archive.faults import Faults
from simulator.archive.send import Peer
from simulator.archive.server import Archive
from tests.conftest import ConfigMaker
from tests.mr_slices import STUDY, mr_slice
from tests.system.receiving import ReceivingNode
from tests.waiting import eventually

SLICES = [mr_slice("T1", number) for number in range(1, 7)]


@pytest.fixture
def node(make_config: ConfigMaker) -> Iterator[ReceivingNode]:
    with ReceivingNode(make_config()) as node:
        yield node


@pytest.fixture
def archive(node: ReceivingNode, tmp_path: Path) -> Iterator[Archive]:
    with Archive("PACS", node.pacs.port, tmp_path / "archive") as archive:
        for dataset in SLICES:
            buffer = BytesIO()
            dcmwrite(buffer, dataset, enforce_file_format=True)
            archive.index.add(buffer.getvalue())
        yield archive


@pytest.mark.parametrize(
    ("faults", "at_first"),
    [
        (Faults(), 6),
        (Faults(instances_per_association=1), 6),
        (Faults(late_slices=2, late_seconds=0.5), 4),
        (Faults(lose=1), 5),
    ],
    ids=["none", "an association for each", "late slices", "one lost"],
)
def test_what_is_routed_is_taken_as_it_comes(node, archive, faults, at_first):
    archive.order(faults)
    route = archive.route(STUDY, Peer("QUARTERDOSE", "127.0.0.1", node.port))
    assert len(route.sent) == at_first
    whole = len(SLICES) - (1 if faults.lose else 0)
    eventually(lambda: len(node.held()) == whole)
    sent = {str(one.SOPInstanceUID): one for one in SLICES}
    assert all(dcmread(path) == sent[uid] for uid, path in node.held().items())
    assert node.senders() == {"PACS@127.0.0.1"}


def test_an_archive_that_refuses_associations_is_told_in_the_standards_words(node, archive, tmp_path):
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file = Outgoing.of(tmp_path / "virtual.dcm")
    archive.order(Faults(refuse_associations=1))
    with pytest.raises(SendError, match="refused the association: Rejected Transient"), StorageScu(node.pacs, [file]):
        pass
    echo(node.pacs)
    with StorageScu(node.pacs, [file]) as scu:
        scu.store(file)
    assert file.sop_instance_uid in archive.received()
