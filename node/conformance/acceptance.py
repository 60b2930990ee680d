"""Chapter 3: what the listener takes, refuses and answers."""

from __future__ import annotations

from node import commitment_services as commitment
from node import mpps
from node.commitment_results import CLASS_CONFLICT, NO_SUCH_INSTANCE
from node.conformance.markdown import named, table
from node.conformance.services import accepted, contexts
from node.receive import CANNOT_UNDERSTAND, DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES, SUCCESS
from node.receive.admission import (
    CALLED_UNKNOWN,
    CALLING_UNKNOWN,
    CONNECTIONS_WITHOUT_ASSOCIATION,
    LIMIT_EXCEEDED,
    USER_REFUSED,
)
from node.receive.application import TRANSFER_SYNTAXES
from node.settings import Settings

_OTHER_PROTOCOL = (1, 2, 2)  # pynetdicom's answer (PS3.8 section 9.3.2)


def chapter(settings: Settings) -> str:
    """Association acceptance policy, and conformance to each SOP class as SCP."""
    delivery = settings.delivery
    return f"""## 3 Association acceptance

{contexts(accepted(settings))}

The transfer syntaxes of storage; of several in one presentation context the first that the caller proposes is taken,
but Explicit VR Little Endian before Implicit VR Little Endian:

{table(("Transfer syntax", "UID"), [(named(uid), f"`{uid}`") for uid in TRANSFER_SYNTAXES])}

What is accepted is stored. A result can be made only of what the node decodes: the syntaxes in which it asks for
C-GET (chapter 4). An input in another one ends the study with the reason.

Refused (A-ASSOCIATE-RJ, PS3.8 table 9-21):

{table(("when", "result", "source", "reason"), [
    ("the called AE title is not ours", *CALLED_UNKNOWN),
    ("the calling AE title, or its address, is not in `receiver.calling_ae_titles`", *CALLING_UNKNOWN),
    ("the user identity is missing or wrong, where one is asked for", *USER_REFUSED),
    ("there are as many associations as the settings allow", *LIMIT_EXCEEDED),
    ("the protocol version is another", *_OTHER_PROTOCOL),
])}

Connections beyond that limit and {CONNECTIONS_WITHOUT_ASSOCIATION} more are closed without an answer.

### 3.1 Verification

Answered with success ({_hex(SUCCESS)}).

### 3.2 Storage

Level 2 (full): every attribute is kept, private ones too, until a person removes the study's folder; the node deletes
nothing, and offers no Query/Retrieve as SCP. Digital signature level 3 (bit preserving): instances are stored as
received, byte for byte; nothing is coerced. SOP Class Extended Negotiation is answered so.

Success means that the instance survives a power failure from then on. The bytes of the current version again change
nothing; other bytes under the same SOP Instance UID become the current version, and the others are kept. What counts
is the data set's SOP Instance UID.

{table(("Status", "meaning", "what the caller should do"), [
    (_hex(SUCCESS), "stored durably", "nothing"),
    (_hex(OUT_OF_RESOURCES),
     "disk full or below its watermark, or disk or database not to be written; Error Comment says which",
     "send it again later"),
    (_hex(DOES_NOT_MATCH_SOP_CLASS), "the data set is of another SOP class than the request; kept in quarantine",
     "correct it"),
    (_hex(CANNOT_UNDERSTAND),
     "a UID is missing or malformed, it is not readable, or the pixels end early; kept in quarantine",
     "correct it"),
])}

Needed of an instance: SOP Class UID, SOP Instance UID, Study and Series Instance UID. What its series is for is
decided by `[roles] override`, then from physics (Repetition, Echo and Inversion Time, b-values, contrast attributes
and the order in time), names last; a study is complete when every role of `completeness.required` is. The low-dose
series needs a Frame of Reference UID.

### 3.3 Storage commitment

As SCP (PS3.4 Annex J): asked by N-ACTION, the node answers for what it holds whole when it reports; an instance in
quarantine is not committed to. The N-EVENT-REPORT goes over an association of its own, with the SCP role proposed, to
the address that `[[peer]]` or `[[destination]]` gives for the caller. One that is not taken is tried again as a
delivery is, first after {delivery.first_retry_seconds:g} s, until {delivery.give_up_hours:g} h have gone by; neither a
restart nor a crash forgets it. Retrieve AE Title and Storage Media File-Set are neither used nor sent:
what is committed to is kept as section 3.2 says, for this node's own work.

{table(("N-ACTION status", "when"), [
    (_hex(commitment.SUCCESS), "a report will follow"),
    (_hex(commitment.NOT_AUTHORISED), "no address is configured to report to"),
    (_hex(commitment.MISSING_ATTRIBUTE), "no Transaction UID, no Referenced SOP Sequence, or one of its UIDs lacks"),
    (_hex(commitment.PROCESSING_FAILURE), "the database cannot be written"),
])}

{table(("Failure Reason (0008,1197)", "when"), [
    (_hex(NO_SUCH_INSTANCE), "it is not held, or not whole"),
    (_hex(CLASS_CONFLICT), "it is held under another SOP class"),
])}

As SCU it hears reports on its own requests here too:

{table(("N-EVENT-REPORT status", "when"), [
    (_hex(commitment.SUCCESS), "recorded; also every report over the association of the delivery"),
    (_hex(commitment.NO_SUCH_OBJECT), "the Transaction UID is not one that the node waits for"),
    (_hex(commitment.PROCESSING_FAILURE), "the database cannot be written"),
])}

### 3.4 Modality Performed Procedure Step

As SCP (PS3.4 F.7.2): what a modality says it has made of a study is kept and, unless `completeness.procedure_steps`
is false, waited for where a required series is concerned. Used are Performed Procedure Step Status, Study Instance
UID within Scheduled Step Attributes Sequence, Performed Series Sequence with its references, and the Discontinuation
Reason Code Sequence; that a final N-SET is complete is not checked. The Retrieve and Notification SOP Classes are not
offered, and nothing is forwarded.

{table(("Status", "when"), [
    (_hex(SUCCESS), "kept"),
    (_hex(mpps.DUPLICATE), "N-CREATE of a SOP Instance UID that is there"),
    (_hex(mpps.INVALID_VALUE), "a status that is not defined, or a first one that is not IN PROGRESS"),
    (_hex(mpps.MISSING_ATTRIBUTE), "no Study Instance UID"),
    (_hex(mpps.INVALID_OBJECT), "N-CREATE without a SOP Instance UID"),
    (_hex(mpps.NO_SUCH_OBJECT), "N-SET of a step that is not known, or of none"),
    (_hex(mpps.PROCESSING_FAILURE),
     f"N-SET of a step that has ended (Error ID {_hex(mpps.NO_LONGER_UPDATED)}), or a data set "
     "that cannot be read"),
    (_hex(mpps.RESOURCE_LIMITATION), "the database cannot be written; to be tried again"),
])}"""


def _hex(status: int) -> str:
    return f"`0x{status:04X}`"
