"""Receiving: from a connection to an instance that is on disk, fsynced, and has its row.

The path of an instance: server (a connection, with tls) → admission (may it? is it one of the users?) → fast_lane and
pdu_stream (PDUs; shared_reader takes those of all associations) → storing and command (which request) → incoming (its
bytes) → header_scan (what it is) → store (instance or quarantine) → journal and group_commit (durable) → the answer;
then clerk and record (its file and its row), or, after a crash, recover.
"""

from node.receive.answer import CANNOT_UNDERSTAND, DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES, SUCCESS
from node.receive.application import STORAGE_CLASSES, application_entity, storage_classes
from node.receive.receiver import Receiver
from node.receive.record import Arrival, record

__all__ = [
    "CANNOT_UNDERSTAND", "DOES_NOT_MATCH_SOP_CLASS", "OUT_OF_RESOURCES", "STORAGE_CLASSES", "SUCCESS", "Arrival",
    "Receiver", "application_entity", "record", "storage_classes",
]  # fmt: skip
