"""Chapter 4: what the node asks of others."""

from __future__ import annotations

from node.conformance.services import contexts, proposed
from node.settings import Settings


def chapter(settings: Settings) -> str:
    """Association initiation policy, and conformance to each SOP class as SCU."""
    activities = "\n\n".join(f"{name}:\n\n{contexts(services)}" for name, services in proposed(settings).items())
    delivery, retrieval = settings.delivery, settings.retrieval
    return f"""## 4 Association initiation

{activities}

`quarterdose send` proposes the SOP class and transfer syntax of each file that it is given.

### 4.1 Storage and storage commitment

One association for each delivery. An instance is sent in its own transfer syntax, or converted to Implicit VR Little
Endian where the peer accepts nothing else. Success, any warning, and 0x0111 (duplicate SOP instance) mean that the
peer has it; any other answer, or none, is tried again after {delivery.first_retry_seconds:g} s, doubled each time up
to {delivery.longest_retry_seconds:g} s, for {delivery.give_up_hours:g} hours. Where a destination accepts no
presentation context for a kind of object, the next of its `kinds` is sent.

Where `confirm` is "commitment": N-ACTION over the same association; the N-EVENT-REPORT is taken over it or any
other, also days later. What the peer does not commit to is sent again. Without an answer for
{delivery.commitment_timeout_seconds:g} s, or where it is not offered, each instance is looked for by C-FIND.

### 4.2 Query/Retrieve, Study Root

C-FIND is hierarchical; relational queries are not negotiated. Matching keys: at STUDY level Study Instance UID,
Accession Number, Patient ID, and whatever a person gives to `quarterdose pull --query`; at SERIES and IMAGE level
the UIDs above. Return keys: Accession Number, Study Date, Study Description, Modalities in Study, Patient ID, Issuer
of Patient ID; Modality, Number of Series Related Instances; SOP Class UID. 0xFF00 and 0xFF01 are pending, 0x0000 is
the end, anything else a failure.

C-MOVE names this node's AE title as destination. C-GET negotiates the SCP role for the storage classes. Both ask for
a study, then for series, then for lists of SOP Instance UIDs, at most {retrieval.attempts} times; what has arrived
decides, the final status is only quoted. They are ended by A-ABORT; C-CANCEL is not used.

### 4.3 DICOMweb

STOW-RS (PS3.18 section 10.5): `multipart/related; type="application/dicom"`, in the instance's transfer syntax; the
answer is read in DICOM JSON or XML. QIDO-RS (section 10.6): studies, series and instances in DICOM JSON. WADO-RS
(section 10.4): studies, series and instances as `multipart/related; type="application/dicom"; transfer-syntax=*`.
HTTP Authorization is sent where a file with it is configured."""
