"""What the listener accepts: its application entity with every presentation context (PS3.8 section 7.1.1.13)."""

from __future__ import annotations

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.sop_class import ModalityPerformedProcedureStep, StorageCommitmentPushModel, Verification

from node.entity import entity_of
from node.header.pixels import JPIP
from node.settings import Settings

# What a brain MRI study is made of; configuration adds to it (receiver.extra_sop_classes).
STORAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
)
TRANSFER_SYNTAXES = tuple(
    uid for uid in dict.fromkeys(map(str, (*ALL_TRANSFER_SYNTAXES, *AllTransferSyntaxes))) if uid not in JPIP
)
"""Every one there is, for instances are stored as received; but those whose instances only say where their pixels can
be fetched: nobody could answer for these."""
_ANY_NUMBER = 1 << 20  # the limits are ours (node.receive.admission)


def storage_classes(settings: Settings) -> tuple[str, ...]:
    """The SOP Class UIDs of what is stored here."""
    return (*STORAGE_CLASSES, *settings.receiver.extra_sop_classes)


def application_entity(settings: Settings) -> AE:
    """The acceptor. Storage commitment goes both ways: whoever asks us is its SCU, whoever answers us its SCP (PS3.4
    J.3.3)."""
    receiver = settings.receiver
    ae = entity_of(settings.node.ae_title)
    ae.maximum_pdu_size = receiver.maximum_pdu
    ae.maximum_associations = _ANY_NUMBER
    ae.acse_timeout = receiver.request_timeout_seconds
    ae.network_timeout = ae.dimse_timeout = receiver.network_timeout_seconds
    ae.add_supported_context(Verification)
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    ae.add_supported_context(ModalityPerformedProcedureStep)
    for sop_class in storage_classes(settings):
        ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    return ae
