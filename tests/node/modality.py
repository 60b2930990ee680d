"""A sender of images that wants to delete its own copies, and so asks for storage commitment."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance


class Modality:
    """SIMULATOR, beside a node that listens on ``port``. ``heard``: Event Type ID and Event Information of reports."""

    def __init__(self, node: str, port: int) -> None:
        self._node = node
        self._port = port
        self.heard: list[tuple[int, Dataset]] = []

    def listen(self, port: int) -> None:
        """For reports."""
        ae = AE("SIMULATOR")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        self.server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._hear)]
        )

    def _hear(self, event: evt.Event) -> tuple[int, None]:
        self.heard.append((event.event_type, event.event_information))
        return 0x0000, None

    def call(self, calling: str = "SIMULATOR") -> Association:
        """An association with the node, for MR images and storage commitment."""
        ae = AE(calling)
        ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        ae.add_requested_context(StorageCommitmentPushModel)
        return ae.associate("127.0.0.1", self._port, ae_title=self._node)

    def ask(self, *references: tuple[str, str], calling: str = "SIMULATOR") -> int:
        """N-ACTION for SOP Class and SOP Instance UIDs; "" leaves one out. Returns its status."""
        request = Dataset()
        request.TransactionUID = "1.2.3.4.5"
        request.ReferencedSOPSequence = []
        for sop_class, instance in references:
            item = Dataset()
            item.ReferencedSOPClassUID = sop_class
            if instance:
                item.ReferencedSOPInstanceUID = instance
            request.ReferencedSOPSequence.append(item)
        association = self.call(calling)
        status, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        return int(status.Status)
