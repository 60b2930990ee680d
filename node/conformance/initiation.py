"""Chapter 4: what the node asks of others."""

from __future__ import annotations

from node.conformance.markdown import named
from node.conformance.services import RETRIEVE_BY_GET, contexts, proposed
from node.retrieve import INSTANCES_AT_ONCE
from node.settings import Settings


def chapter(settings: Settings) -> str:
    """Association initiation policy, and conformance to each SOP class as SCU."""
    begun = proposed(settings)
    activities = "\n\n".join(f"{name}:\n\n{contexts(services)}" for name, services in begun.items())
    delivery, retrieval = settings.delivery, settings.retrieval
    of_get = max((one.transfer_syntaxes for one in begun[RETRIEVE_BY_GET]), key=len)
    return f"""## 4 Association initiation

{activities}

The transfer syntaxes of storage by C-GET, in the order of preference: {", ".join(map(named, of_get))}.

Storage is proposed as one presentation context for each SOP class and transfer syntax, at most 128 in all: of C-GET
the rarer compressed syntaxes are left out where more than seven classes are stored. `quarterdose send` does so for
the files that it is given. Every request has Priority MEDIUM.

### 4.1 Storage and storage commitment

One association for each delivery. An instance is sent in its own transfer syntax, or converted to Implicit VR Little
Endian where the peer accepts nothing else. Success, any warning, and 0x0111 (duplicate SOP instance) mean that the
peer has it; any other answer, or none, is tried again after {delivery.first_retry_seconds:g} s, doubled each time up
to {delivery.longest_retry_seconds:g} s; after {delivery.give_up_hours:g} hours the study is FAILED until a person has
it sent again. Where a destination accepts no presentation context for a kind of object, the next of its `kinds` is
sent.

With `confirm = "commitment"`, N-ACTION over the same association, which then waits a few seconds for the report; the
N-EVENT-REPORT is taken over it or any other, also days later. What the peer does not commit to is sent again. Without
a report for {delivery.commitment_timeout_seconds:g} s, or where the N-ACTION is not answered with success or not
offered, each instance is looked for by C-FIND. With `confirm = "find"` that is done at once; what is not found a
minute after it was sent is sent again. With `confirm = "none"`, and where a destination offers neither, the success
of the C-STORE is all that is known, and the study counts as delivered; `quarterdose studies show KEY` says so.

### 4.2 Query/Retrieve, Study Root

C-FIND is hierarchical; relational queries are not negotiated. Matching keys: STUDY level: Study Instance UID or
Accession Number, whatever a person gives to `quarterdose pull --query`, and for priors Patient ID with a range of
Study Date. SERIES: Study Instance UID. IMAGE: Study and Series Instance UID, and SOP Instance UID to confirm a
delivery. Return keys: the UID of the level; Accession Number, Study Date, Study Description, Modalities in Study,
Patient ID, Issuer of Patient ID; Modality, Number of Series Related Instances; SOP Class UID. 0xFF00 and 0xFF01 are
pending, 0x0000 is the end, anything else a failure.

C-MOVE names this node's AE title as destination, which the source has to know with our address, and the source's has
to be among `receiver.calling_ae_titles`. C-GET negotiates the SCP role for the storage classes; a source that refuses
it ends the pull. Both ask for a study, then for series, then for lists of up to {INSTANCES_AT_ONCE} SOP Instance
UIDs, at most {retrieval.attempts} times; what has arrived decides, the final status is only quoted. They are ended by
A-ABORT; C-CANCEL is not used.

### 4.3 DICOMweb

STOW-RS (PS3.18 section 10.5): `multipart/related; type="application/dicom"`, one instance in each request, in its own
transfer syntax; the answer has to name it. QIDO-RS (section 10.6): studies, series and instances in DICOM JSON.
WADO-RS (section 10.4): studies, series and instances as `multipart/related; type="application/dicom";
transfer-syntax=*`. The matching keys are those of 4.2. Redirections are not followed. HTTP Authorization is sent
where a file with it is configured."""
