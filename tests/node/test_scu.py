"""The Storage SCU against a peer that answers at once: pynetdicom's own requestor loses some of those answers."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from node.scu import Peer, StorageScu, associate, entity
from node.sender import Outgoing
from tests.mr_slices import mr_slice
from tests.waiting import eventually


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Answers C-ECHO, and storage commitment with its report on the same association, before the N-ACTION's answer."""
    ae = AE("PEER")
    ae.add_supported_context(Verification)
    ae.add_supported_context(StorageCommitmentPushModel)
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.4")

    def report_first(event: evt.Event) -> tuple[int, None]:
        Thread(target=report, args=(event.assoc, event.action_information)).start()
        return 0x0000, None

    def report(association: object, request: Dataset) -> None:
        association.send_n_event_report(  # type: ignore[attr-defined]
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, report_first)])
    yield Peer("PEER", "127.0.0.1", server.socket.getsockname()[1], "NODE", 5.0)
    server.shutdown()


def test_no_answer_is_lost(peer):
    ae = entity(peer)
    ae.add_requested_context(Verification)
    association = associate(ae, peer)
    try:
        # Without a queue for responses alone about one in two hundred goes missing.
        assert [association.send_c_echo().get("Status") for _ in range(600)] == [0x0000] * 600
    finally:
        association.release()


def test_a_report_on_the_same_association_is_heard_and_is_nobodys_answer(peer, tmp_path):
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file = Outgoing.of(tmp_path / "virtual.dcm")
    for _ in range(20):
        heard: list[str] = []
        with StorageScu(peer, [file], report=lambda report, heard=heard: heard.append(report.TransactionUID)) as scu:
            scu.request_commitment("1.2.3", [file])
            eventually(lambda heard=heard: heard, 5)
        assert heard == ["1.2.3"]
