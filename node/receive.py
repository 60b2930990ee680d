"""Receiving: a Storage SCP that answers success only for what is durable (DICOM PS3.4 Annex B).

An instance is on disk, fsynced, and its row committed before success is answered. What cannot be understood is kept
in quarantine with its reason and answered with 0xC000, so that the sender knows too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from io import BytesIO

from pydicom import dcmread
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.events import Event as NetworkEvent
from pynetdicom.sop_class import Verification
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.associations import Associations
from node.commit import Reports
from node.commitment_services import CommitmentServices
from node.database import writing
from node.files import DataFolder, safe_name, write_durably
from node.header.instance import HeaderError, InstanceHeader, scan
from node.settings import Settings
from node.states import State, move
from node.tables import Event, Instance, Quarantined, Series, Study, now

log = logging.getLogger(__name__)

# What a brain MRI study is made of; configuration adds to it (receiver.extra_sop_classes).
STORAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Receiver:
    """The listener. ``on_closed`` is called after each association has ended; ``reports`` hears what destinations say
    about the storage commitments we asked them for."""

    def __init__(
        self, settings: Settings, engine: Engine, associations: Associations, on_closed: Callable[[], None],
        reports: Reports,
    ) -> None:
        self._associations = associations
        self._settings = settings
        self._engine = engine
        self._folder = DataFolder(settings.node.data)
        self._on_closed = on_closed
        self._commitments = CommitmentServices(settings, engine, reports)
        self._server: object | None = None
        self._ae = self._application_entity()

    def start(self) -> None:
        """Listen; returns at once. Raises OSError when the address cannot be had."""
        self._server = self._ae.start_server(
            (self._settings.receiver.host, self._settings.receiver.port),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_REJECTED, self._rejected),
                (evt.EVT_CONN_OPEN, self._opened),
                (evt.EVT_RELEASED, self._released),
                (evt.EVT_CONN_CLOSE, self._closed),
                *self._commitments.handlers,
            ],
        )

    def stop(self) -> None:
        """Stop listening and abort what is open: a sender keeps what was not acknowledged."""
        self._commitments.stop()
        self._ae.shutdown()

    def _application_entity(self) -> AE:
        receiver = self._settings.receiver
        ae = AE(self._settings.node.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(receiver.calling_ae_titles)
        ae.maximum_pdu_size = receiver.maximum_pdu
        ae.maximum_associations = receiver.maximum_associations
        ae.network_timeout = ae.dimse_timeout = receiver.network_timeout_seconds
        ae.add_supported_context(Verification)
        self._commitments.add_to(ae)
        for sop_class in (*STORAGE_CLASSES, *receiver.extra_sop_classes):
            ae.add_supported_context(sop_class, _transfer_syntaxes())
        return ae

    # pynetdicom calls the handlers below in the thread of the association.

    def _opened(self, event: NetworkEvent) -> None:
        self._associations.opened(event.assoc)
        # A peer that stalls inside a PDU would otherwise hold its slot for ever.
        event.assoc.dul.socket.socket.settimeout(self._settings.receiver.network_timeout_seconds)

    def _accepted(self, event: NetworkEvent) -> None:
        for context in event.assoc.rejected_contexts:
            name = UID(context.abstract_syntax).name
            self._note(
                sender_of(event),
                f"{name} is not accepted",
                f"to store SOP class {context.abstract_syntax} here, add it to receiver.extra_sop_classes",
            )

    def _rejected(self, event: NetworkEvent) -> None:
        request = event.assoc.requestor.primitive
        self._note(
            sender_of(event),
            "association refused",
            f"called AE title {request.called_ae_title!r}, calling AE title {request.calling_ae_title!r}: "
            f"this node is {self._settings.node.ae_title!r} and takes from "
            + ", ".join(self._settings.receiver.calling_ae_titles),
        )

    def _released(self, event: NetworkEvent) -> None:
        self._associations.released(event.assoc)
        self._on_closed()

    def _closed(self, event: NetworkEvent) -> None:
        self._associations.closed(event.assoc)
        self._on_closed()

    def _store(self, event: NetworkEvent) -> int:
        try:
            return self._store_durably(event)
        except (OSError, SQLAlchemyError) as error:
            # Disk full, database gone: the sender keeps the instance and tries again.
            log.error("an instance from %s was not stored: %s", sender_of(event), error)
            return OUT_OF_RESOURCES

    def _store_durably(self, event: NetworkEvent) -> int:
        sender = sender_of(event)
        content: bytes = event.encoded_dataset()
        digest = hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()
        try:
            header = scan(BytesIO(content))
        except HeaderError as error:
            self._quarantine(content, digest, sender, str(error), _claimed_study(content))
            return CANNOT_UNDERSTAND
        if header.truncated:
            self._quarantine(content, digest, sender, "the pixel data end early: truncated", header.study_instance_uid)
            return CANNOT_UNDERSTAND
        if header.sop_class_uid != event.request.AffectedSOPClassUID:
            announced = event.request.AffectedSOPClassUID
            reason = f"announced as SOP class {announced}, but the dataset says {header.sop_class_uid}"
            self._quarantine(content, digest, sender, reason, header.study_instance_uid)
            return DOES_NOT_MATCH_SOP_CLASS
        study_key, series_key = safe_name(header.study_instance_uid), safe_name(header.series_instance_uid)
        self._associations.brings(event.assoc, study_key)
        path = self._folder.received(study_key, series_key, header.sop_instance_uid, digest)
        write_durably(content, path, self._folder.incoming)
        with writing(self._engine) as session:
            relative = path.relative_to(self._folder.root).as_posix()
            record_instance(session, header, digest, relative, len(content), sender)
        return SUCCESS

    def _quarantine(self, content: bytes, digest: str, sender: str, reason: str, claimed_study: str) -> None:
        path = self._folder.quarantined(digest)
        write_durably(content, path, self._folder.incoming)
        log.warning("quarantined an instance from %s: %s", sender, reason)
        with writing(self._engine) as session:
            if session.scalar(select(Quarantined.id).where(Quarantined.digest == digest)) is None:
                relative = path.relative_to(self._folder.root).as_posix()
                session.add(
                    Quarantined(
                        digest=digest, path=relative, size=len(content), sender=sender, reason=reason,
                        claimed_study=claimed_study,
                    )
                )  # fmt: skip

    def _note(self, who: str, what: str, why: str) -> None:
        log.warning("%s: %s: %s", who, what, why)
        with Session(self._engine) as session, session.begin():
            session.add(Event(study_id=None, who=who, what=what, why=why))


def record_instance(session: Session, header: InstanceHeader, digest: str, path: str, size: int, sender: str) -> None:
    """Write one received instance and what it changes about its study, within a ``writing`` transaction.

    The same bytes again change nothing; other bytes under the same SOP Instance UID become the current version.
    """
    study = session.scalar(select(Study).where(Study.study_instance_uid == header.study_instance_uid))
    if study is None:
        study = Study(
            key=safe_name(header.study_instance_uid), study_instance_uid=header.study_instance_uid,
            patient_id=header.patient_id, accession_number=header.accession_number, study_date=header.study_date,
            state=State.RECEIVING, reason="instances are arriving",
        )  # fmt: skip
        session.add(study)
        session.flush()
        session.add(Event(study_id=study.id, who=sender, what=f"→ {State.RECEIVING}", why="first instance"))
    series = session.scalar(
        select(Series).where(Series.study_id == study.id, Series.series_instance_uid == header.series_instance_uid)
    )
    if series is None:
        series = Series(
            study_id=study.id, key=safe_name(header.series_instance_uid),
            series_instance_uid=header.series_instance_uid, description=header.series_description,
            number=header.series_number, modality=header.modality, role=None,
        )  # fmt: skip
        session.add(series)
        session.flush()
    versions = session.scalars(
        select(Instance).where(Instance.series_id == series.id, Instance.sop_instance_uid == header.sop_instance_uid)
    ).all()
    if any(version.digest == digest for version in versions):
        return
    for version in versions:
        version.current = False
    session.add(
        Instance(
            series_id=series.id, sop_instance_uid=header.sop_instance_uid, version=len(versions) + 1, digest=digest,
            path=path, size=size, sender=sender, header=header.to_json(),
        )
    )  # fmt: skip
    if versions:
        why = f"SOP instance {header.sop_instance_uid} came again with other content; version {len(versions) + 1}"
        log.warning("study %s: %s", study.key, why)
        session.add(Event(study_id=study.id, who=sender, what="new version", why=why))
    if header.ours:
        return  # our own result, routed back by the PACS: kept, but it says nothing new about the study
    study.last_received = now()
    study.unjudged = True
    if study.state == State.INCOMPLETE:
        move(session, study, State.RECEIVING, "a late instance arrived", sender)


def sender_of(event: NetworkEvent) -> str:
    """Who is calling, for the log and the tables: AE title and address."""
    requestor = event.assoc.requestor
    return f"{requestor.ae_title or '?'}@{requestor.address}"


def _claimed_study(content: bytes) -> str:
    """The study that a broken dataset says it belongs to, as far as it can be read at all."""
    try:
        dataset = dcmread(BytesIO(content), specific_tags=["StudyInstanceUID"], stop_before_pixels=True, force=True)
        return str(dataset.get("StudyInstanceUID", ""))
    except Exception:  # noqa: BLE001 - it is broken, in whatever way; the reason is known already
        return ""


def _transfer_syntaxes() -> list[str]:
    """Every transfer syntax there is: instances are stored as received."""
    return [str(uid) for uid in dict.fromkeys([*ALL_TRANSFER_SYNTAXES, *AllTransferSyntaxes])]
