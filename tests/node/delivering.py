"""What the tests of delivery share: a study whose result is made, how far it has come (real tables), and odd peers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.settings import Settings
from node.states import State
from node.tables import Delivery, DerivedSeriesRow, Study, now
from tests.mr_slices import mr_slice


def to_deliver(settings: Settings, engine: Engine, count: int = 3) -> int:
    """A study in DELIVERING with a derived series of so many instances for "pacs"; its row id."""
    datasets = [mr_slice("virtual", number) for number in range(1, count + 1)]
    settings.node.data.mkdir(parents=True, exist_ok=True)
    with Session(engine) as session, session.begin():
        row = Study(
            key="k", study_instance_uid=datasets[0].StudyInstanceUID, patient_id="", accession_number="",
            study_date="", state=State.DELIVERING, reason="", inputs_digest="of run 1",
        )  # fmt: skip
        session.add(row)
        session.flush()
        series = DerivedSeriesRow(
            study_id=row.id, series_instance_uid=datasets[0].SeriesInstanceUID, kind="enhanced_mr", model_digest="",
            inputs_digest="of run 1", made=now(),
        )  # fmt: skip
        session.add(series)
        session.flush()
        for dataset in datasets:
            path = Path(f"{dataset.InstanceNumber}.dcm")
            dataset.save_as(settings.node.data / path, enforce_file_format=True)
            session.add(
                Delivery(
                    derived_series_id=series.id, destination="pacs", sop_class_uid=dataset.SOPClassUID,
                    sop_instance_uid=dataset.SOPInstanceUID, path=str(path),
                )
            )  # fmt: skip
        return row.id


def ledger(engine: Engine) -> list[tuple[str, int]]:
    with Session(engine) as session:
        return [(row.state, row.attempts) for row in session.scalars(select(Delivery).order_by(Delivery.id))]


def state(engine: Engine) -> str:
    with Session(engine) as session:
        return session.scalars(select(Study.state)).one()


@contextmanager
def storing(port: int, status: int) -> Iterator[None]:
    """A Storage SCP, and nothing else, that answers every instance with ``status``."""
    ae = AE("PACS")
    ae.supported_contexts = AllStoragePresentationContexts
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: status)])
    try:
        yield
    finally:
        server.shutdown()


NO_UID = b"\x08\x00\x18\x00US\x03\x00abc"  # a SOP Instance UID of one and a half numbers


@contextmanager
def finding(port: int, identifier: bytes) -> Iterator[None]:
    """An SCP that stores everything and finds, whatever it is asked for, these bytes."""

    def find(event: evt.Event) -> Iterator[None]:
        answer = Dataset()
        answer.AffectedSOPClassUID = StudyRootQueryRetrieveInformationModelFind
        answer.CommandField, answer.CommandDataSetType, answer.Status = 0x8020, 0x0001, 0xFF00
        answer.MessageIDBeingRespondedTo = event.request.MessageID
        command = encode(answer, True, True)
        command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
        message, context = P_DATA(), event.context.context_id
        message.presentation_data_value_list = [[context, b"\x03" + command], [context, b"\x02" + identifier]]
        event.assoc.dul.send_pdu(message)
        yield from ()

    ae = AE("PACS")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_C_FIND, find)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield
    finally:
        server.shutdown()
