"""Storage commitment that the node is asked for outlives what happens to the node, and the peer being away."""

from __future__ import annotations

from pydicom.uid import MRImageStorage

from tests.conftest import ConfigMaker, free_port
from tests.mr_slices import mr_slice
from tests.node.modality import Modality
from tests.system.node_process import NodeProcess
from tests.waiting import eventually


def test_a_result_that_is_due_is_told_after_kill_9(make_config: ConfigMaker):
    port = free_port()
    node = NodeProcess(make_config(peer__port=port, delivery__first_retry_seconds=1.0))
    modality = Modality(node.settings.node.ae_title, node.settings.receiver.port)
    with node:
        association = modality.call()
        sent = mr_slice("t1", 1)
        assert association.send_c_store(sent).Status == 0x0000
        association.release()
        assert modality.ask((MRImageStorage, sent.SOPInstanceUID), (MRImageStorage, "1.2.3")) == 0x0000
        eventually(lambda: "the result of storage commitment 1.2.3.4.5 is not told" in node.log.read_text(), 20)
        node.kill()
        node.start()
        modality.listen(port)
        try:
            eventually(lambda: modality.heard, 30)
        finally:
            modality.server.shutdown()
    (event_type, result), *more = modality.heard
    assert (event_type, result.TransactionUID, more) == (2, "1.2.3.4.5", [])
    assert [item.ReferencedSOPInstanceUID for item in result.ReferencedSOPSequence] == [sent.SOPInstanceUID]
    assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in result.FailedSOPSequence] == [
        ("1.2.3", 0x0112)
    ]
