"""The statement as a page in Markdown; tables come from the code and the settings."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from node.association import entity
from node.conformance import acceptance, initiation, objects
from node.conformance.markdown import named, table, wrapped
from node.conformance.services import SOMEBODY, accepted, proposed
from node.receive.application import application_entity
from node.settings import DicomWebDestination, DicomWebSource, DimseDestination, DimseSource, Settings


def statement(settings: Settings) -> str:
    """What this version does on the wire with these settings. No path, address of a file, or secret is in it."""
    parts = (
        _title(), _overview(settings), _networking(settings), acceptance.chapter(settings),
        initiation.chapter(settings), _interfaces(settings), _configuration(settings), objects.chapter(),
    )  # fmt: skip
    return wrapped("\n\n".join(parts)) + "\n"


def _title() -> str:
    return f"""# DICOM Conformance Statement

Quarterdose {version("quarterdose")}, a node that receives brain MRI studies and sends a derived *virtual* full-dose
contrast-enhanced T1 series back. For research; not a medical device.

This page was made by `quarterdose conformance --config config.toml` from the code of that version and the settings in
`config.toml`; run it with yours, and it says what your node does. It has the content of PS3.2's former Annex A, not
the layout of the present Annex N. Two products that conform need not work together: try it with test data first. What
was tried with which peer is in docs/peers.md."""


def _overview(settings: Settings) -> str:
    roles: dict[str, list[bool]] = {}
    for service in (*accepted(settings), *(one for those in proposed(settings).values() for one in those)):
        ours = roles.setdefault(service.sop_class_uid, [False, False])
        ours[0], ours[1] = ours[0] or service.scu, ours[1] or service.scp
    rows = [(named(uid), f"`{uid}`", *("yes" if ours else "no" for ours in both)) for uid, both in roles.items()]
    return f"""## 1 Overview

{table(("SOP class", "UID", "as SCU", "as SCP"), rows)}

This is all that the node may propose or accept; an association proposes what it needs of it, and `quarterdose send`
the SOP class of whatever file it is given. DICOMweb, as user agent only: STOW-RS to deliver, QIDO-RS and WADO-RS to
query and retrieve (section 4.3). Media Storage is not supported."""


def _networking(settings: Settings) -> str:
    ae, receiver = application_entity(settings), settings.receiver
    rows = (
        ("Application Context", "`1.2.840.10008.3.1.1.1`"),
        ("Implementation Class UID, in associations and files", f"`{ae.implementation_class_uid}`"),
        ("Implementation Version Name, likewise", f"`{ae.implementation_version_name}`"),
        ("Maximum PDU announced as acceptor and for C-GET, bytes", receiver.maximum_pdu),
        ("Maximum PDU announced otherwise as requestor, bytes", entity(SOMEBODY).maximum_pdu_size),
        ("Associations accepted at once", f"{receiver.maximum_associations}, of one calling AE title "
         f"{receiver.maximum_associations_per_peer}"),
        ("Associations requested at once", "one for each destination; for each source one, and one for priors; one "
         "to ask for what a study lacks; one for each peer that asked for storage commitment"),
        ("Asynchronous operations window", "accepted as 1, 1; not proposed"),
        ("Time for an association request to arrive", f"{receiver.request_timeout_seconds:g} s"),
        ("Time of silence, and for one PDU, as acceptor", f"{receiver.network_timeout_seconds:g} s, then A-ABORT"),
        ("Time for an answer as requestor", f"{settings.delivery.timeout_seconds:g} s when delivering, "
         f"{settings.retrieval.timeout_seconds:g} s when retrieving; one C-FIND, C-MOVE or C-GET as a whole "
         f"{settings.retrieval.total_seconds:g} s, then A-ABORT"),
    )  # fmt: skip
    return f"""## 2 Implementation model

One application entity, `{settings.node.ae_title}`, does all of it:

1. It accepts associations and stores what modalities and PACS send; whoever sent may ask for storage commitment, and
   modalities may report procedure steps.
2. It may query and retrieve a study, what a study lacks, and priors.
3. When a study is complete, it derives its result, a series for each kind that is configured, and delivers it, asks for
   storage commitment, and queries whether what it sent is there.

{table(("General", ""), rows)}"""


def _interfaces(settings: Settings) -> str:
    receiver = settings.receiver
    spoken = "DICOM over TLS only" if receiver.tls is not None else "plain DICOM; over TLS where `receiver.tls` is set"
    users = (
        "each association has to name a user with a passcode (type 2); anything else is refused"
        if receiver.user_identities else "not looked at; the association is accepted without a positive response"
    )  # fmt: skip
    return f"""## 5 Network interfaces and security

TCP over IPv4 and IPv6. The listener speaks {spoken}.

TLS 1.2 and 1.3, as the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile has it (PS3.15 section B.12):
ECDHE with AES-GCM or ChaCha20, RSA keys of 2048 bits or more. Callers show a certificate where
`require_client_certificate` says so, and it is not tied to the AE title. Towards peers, their certificate and host
name are checked, and ours is shown where it is configured. The listener's files are read at the start; revocation
lists are not consulted, the listener renegotiates nothing and resumes no sessions.

User identity negotiation: {users}; none is proposed. Who may call is decided by calling AE title and, where
configured, by address, certificate and user identity. Audit trail messages (PS3.15 A.5) are not sent: events are in
the node's database and log. Where `[health]` has a port, a probe answers HTTP there; it tells nothing of patients.

## 6 Character sets

Instances are stored bit by bit, whatever their Specific Character Set. Text that the node shows or judges is read as
pydicom reads it, which knows the character sets of PS3.3 C.12.1.1.2 but Latin alphabet No. 9 (ISO_IR 203, read as No.
1). Derived objects have the Specific Character Set of the low-dose series; text of their own is ASCII. A query by
keys that are not ASCII is sent in ISO_IR 192."""


def _configuration(settings: Settings) -> str:
    receiver = settings.receiver
    ours = [("local", settings.node.ae_title, f"{receiver.host}:{receiver.port}", "listens")]
    return f"""## 7 Configuration

{table(("", "AE title", "address", "for"), [*ours, *_remote(settings)])}

Callers that are accepted: {", ".join(f"`{title}`" for title in receiver.calling_ae_titles)}. AE titles, addresses,
further SOP classes to store, limits and timeouts are keys of `config.toml`, where each is explained; fixed are the
SOP classes that are always stored, the PDU announced as requestor, and what this page calls fixed."""


def _remote(settings: Settings) -> Iterable[tuple[str, str, str, str]]:
    for place in settings.destination:
        if isinstance(place, DimseDestination):
            yield "remote", place.ae_title, f"{place.host}:{place.port}", f"delivers to, confirmed by {place.confirm}"
        elif isinstance(place, DicomWebDestination):
            yield "remote", "–", place.url, f"delivers to by STOW-RS, confirmed by {place.confirm}"
        else:
            yield "remote", "–", "a folder", "delivers files to"
    for peer in settings.peer:
        yield "remote", peer.ae_title, f"{peer.host}:{peer.port}", "is told what is committed"
    for source in settings.source:
        if isinstance(source, DimseSource):
            yield "remote", source.ae_title, f"{source.host}:{source.port}", f"retrieves from by {source.retrieve}"
        elif isinstance(source, DicomWebSource):
            yield "remote", "–", source.url, "retrieves from by WADO-RS"

