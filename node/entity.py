"""What the node calls itself on the wire, whether it calls or is called."""

from __future__ import annotations

from pydicom.uid import UID
from pynetdicom import AE, _config

from node.derive.provenance import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

# For its log pynetdicom decodes every value of an identifier, and takes the whole for unreadable where one is. Besides,
# the log would hold patients' names.
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


def entity_of(ae_title: str) -> AE:
    """An application entity of ours: Quarterdose, not the library it is made with (PS3.7 section D.3.3.2)."""
    ae = AE(ae_title)
    ae.implementation_class_uid, ae.implementation_version_name = UID(IMPLEMENTATION_CLASS_UID), IMPLEMENTATION_VERSION
    return ae
