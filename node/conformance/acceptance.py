"""Chapter 3: what the listener takes, refuses and answers."""

from __future__ import annotations

from node import commitment_services as commitment
from node import mpps
from node.conformance.markdown import named, table
from node.conformance.services import accepted, contexts
from node.receive import CANNOT_UNDERSTAND, DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES, SUCCESS
from node.receive.admission import CALLED_UNKNOWN, CALLING_UNKNOWN, LIMIT_EXCEEDED, USER_REFUSED
from node.receive.application import transfer_syntaxes
from node.settings import Settings


def chapter(settings: Settings) -> str:
    """Association acceptance policy, and conformance to each SOP class as SCP."""
    return f"""## 3 Association acceptance

{contexts(accepted(settings))}

The transfer syntaxes of storage; of several in one presentation context the first that the caller proposes is taken,
but Explicit VR Little Endian before Implicit VR Little Endian:

{table(("Transfer syntax", "UID"), [(named(uid), f"`{uid}`") for uid in transfer_syntaxes()])}

Refused (A-ASSOCIATE-RJ, PS3.8 table 9-21):

{table(("when", "result", "source", "reason"), [
    ("the called AE title is not ours", *CALLED_UNKNOWN),
    ("the calling AE title, or its address, is not in `receiver.calling_ae_titles`", *CALLING_UNKNOWN),
    ("the user identity is missing or wrong, where one is asked for", *USER_REFUSED),
    ("there are as many associations as the settings allow", *LIMIT_EXCEEDED),
])}

### 3.1 Verification

Answered with success ({_hex(SUCCESS)}).

### 3.2 Storage

Level 2 (full): every attribute is kept, private ones too. Digital signature level 3 (bit preserving): instances are
stored as received, byte for byte; nothing is coerced. SOP Class Extended Negotiation is answered so.

Success means that the instance survives a power failure from then on. The same bytes again change nothing; other
bytes under the same SOP Instance UID become its current version, and earlier ones are kept.

{table(("Status", "meaning", "what the caller should do"), [
    (_hex(SUCCESS), "stored durably", "nothing"),
    (_hex(OUT_OF_RESOURCES), "disk full, or database not to be written; Error Comment (0000,0902) says which",
     "send it again later"),
    (_hex(DOES_NOT_MATCH_SOP_CLASS), "the data set is of another SOP class than the request; it is kept in quarantine",
     "correct it"),
    (_hex(CANNOT_UNDERSTAND), "a UID is missing, it is not readable, or the pixels end early; it is kept in quarantine",
     "correct it"),
])}

Needed of an instance: SOP Class UID, SOP Instance UID, Study and Series Instance UID. What its series is for is
decided from physics (Repetition, Echo and Inversion Time, b-values, contrast attributes and the order in time)
before names; a study is complete when every role of `completeness.required` is.

### 3.3 Storage commitment

As SCP (PS3.4 Annex J): asked by N-ACTION, the node answers for what it holds whole at that moment. The
N-EVENT-REPORT goes over an association of its own, with the SCP role proposed, to the address that `[[peer]]` or
`[[destination]]` gives for the caller; it is tried four times within three minutes, after which the peer has to ask
again.

{table(("N-ACTION status", "when"), [
    (_hex(commitment.SUCCESS), "a report will follow"),
    (_hex(commitment.NOT_AUTHORISED), "no address is configured to report to"),
    (_hex(commitment.MISSING_ATTRIBUTE), "no Transaction UID, or no Referenced SOP Sequence"),
    (_hex(commitment.PROCESSING_FAILURE), "the database cannot be read"),
])}

{table(("Failure Reason (0008,1197)", "when"), [
    (_hex(commitment.NO_SUCH_INSTANCE), "it is not held, or not whole"),
    (_hex(commitment.CLASS_CONFLICT), "it is held under another SOP class"),
])}

As SCU it hears reports on its own requests here too: {_hex(commitment.SUCCESS)}, or
{_hex(commitment.NO_SUCH_OBJECT)} for a Transaction UID that it did not send.

### 3.4 Modality Performed Procedure Step

As SCP (PS3.4 F.7.2): what a modality says it has made of a study is kept, and waited for. Used are Performed
Procedure Step Status, Study Instance UID within Scheduled Step Attributes Sequence, Performed Series Sequence with
its references, and the Discontinuation Reason Code Sequence. The instance cannot be asked for by N-GET, and is not
forwarded.

{table(("Status", "when"), [
    (_hex(SUCCESS), "kept"),
    (_hex(mpps.DUPLICATE), "N-CREATE of a SOP Instance UID that is there"),
    (_hex(mpps.INVALID_VALUE), "a status that is not defined, or a first one other than IN PROGRESS"),
    (_hex(mpps.MISSING_ATTRIBUTE), "no Study Instance UID"),
    (_hex(mpps.INVALID_OBJECT), "no SOP Instance UID"),
    (_hex(mpps.NO_SUCH_OBJECT), "N-SET of a step that is not known"),
    (_hex(mpps.PROCESSING_FAILURE), f"N-SET of a step that has ended (Error ID {_hex(mpps.NO_LONGER_UPDATED)})"),
    (_hex(mpps.RESOURCE_LIMITATION), "the database cannot be written; to be tried again"),
])}"""


def _hex(status: int) -> str:
    return f"`0x{status:04X}`"
