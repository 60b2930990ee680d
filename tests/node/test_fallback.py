"""A destination gets the first kind that it accepts: with Storage SCPs that refuse Enhanced MR, DCMTK's among them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.fallback import choose_kind, first_state, kinds_for, kinds_to_make
from node.ledger import NOT_TAKEN, QUEUED, SENT, SPARE
from node.report import describe_study
from node.sender import RefusedError
from node.settings import DimseDestination, FolderDestination, Settings, load_settings
from node.states import State
from node.tables import Delivery, DerivedSeriesRow, Study, now
from tests.conftest import ConfigMaker, require
from tests.mr_slices import STUDY, mr_slice
from tests.node.test_senders import listens
from tests.waiting import eventually

ENHANCED, CAPTURE = "enhanced_mr", "secondary_capture"
CLASSES = {ENHANCED: EnhancedMRImageStorage, CAPTURE: MultiFrameGrayscaleWordSecondaryCaptureImageStorage}


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    path = make_config(confirm='"none"')
    path.write_text(path.read_text().replace("# kinds = [", "kinds = ["))
    return load_settings(path)


@pytest.fixture
def study(settings: Settings, engine: Engine) -> int:
    """A study in DELIVERING with both kinds made; its row id."""
    settings.node.data.mkdir(parents=True, exist_ok=True)
    (place,) = settings.destination
    with Session(engine) as session, session.begin():
        row = Study(
            key="k", study_instance_uid=STUDY, patient_id="", accession_number="", study_date="", run=1,
            state=State.DELIVERING, inputs_digest="i",
        )  # fmt: skip
        session.add(row)
        session.flush()
        for kind, sop_class in CLASSES.items():
            dataset = mr_slice(kind, 1, SOPClassUID=sop_class)
            dataset.save_as(settings.node.data / f"{kind}.dcm", enforce_file_format=True)
            series = DerivedSeriesRow(
                study_id=row.id, series_instance_uid=dataset.SeriesInstanceUID, kind=kind, model_digest="",
                inputs_digest="i",
            )  # fmt: skip
            session.add(series)
            session.flush()
            begins = first_state(place, kind, [ENHANCED])
            session.add(
                Delivery(
                    derived_series_id=series.id, destination=place.name, sop_class_uid=sop_class, path=f"{kind}.dcm",
                    sop_instance_uid=dataset.SOPInstanceUID, state=begins, settled=None if begins == QUEUED else now(),
                )
            )
        return row.id


def ledger(engine: Engine) -> dict[str, str]:
    """The state of each kind's row."""
    with Session(engine) as session:
        found = session.execute(
            select(DerivedSeriesRow.kind, Delivery.state).join(DerivedSeriesRow.deliveries).order_by(Delivery.id)
        )
        return {row.kind: row.state for row in found}


def shown(engine: Engine) -> dict[str, object]:
    with Session(engine) as session:
        return describe_study(session, session.scalars(select(Study)).one())


@contextmanager
def accepting(port: int, *sop_classes: str) -> Iterator[list[str]]:
    """A Storage SCP for these SOP classes alone; gives those of what it received."""
    received: list[str] = []
    ae = AE("PACS")
    for sop_class in sop_classes:
        ae.add_supported_context(sop_class)

    def store(event: evt.Event) -> int:
        received.append(event.request.AffectedSOPClassUID)
        return 0x0000

    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield received
    finally:
        server.shutdown()


def test_a_destination_that_takes_the_best_kind_gets_that_alone(deliverer, settings, engine, study):
    with accepting(settings.destination[0].port, *CLASSES.values()) as received:
        assert deliverer.attempt(study, "pacs", 1) == ""
    assert received == [CLASSES[ENHANCED]]
    assert ledger(engine) == {ENHANCED: SENT, CAPTURE: SPARE}
    assert shown(engine)["state"] == State.DELIVERED


def test_one_that_refuses_it_gets_the_next_and_the_study_says_so(deliverer, settings, engine, study):
    with accepting(settings.destination[0].port, CLASSES[CAPTURE]) as received:
        assert deliverer.attempt(study, "pacs", 1) == ""
        assert deliverer.attempt(study, "pacs", 2) == "", "a replayed step"
    assert received == [CLASSES[CAPTURE]]
    assert ledger(engine) == {ENHANCED: NOT_TAKEN, CAPTURE: SENT}
    report = shown(engine)
    assert report["state"] == State.DELIVERED
    why = "pacs accepts no presentation context for enhanced_mr; it gets secondary_capture instead"
    assert why in [event["why"] for event in report["events"]]
    assert report["derived"][0]["deliveries"][0]["error"] == why


def test_dcmtk_that_refuses_enhanced_mr(deliverer, settings, engine, study, tmp_path):
    """storescp with a profile (its -xf) that knows one SOP class: Multi-frame Grayscale Word Secondary Capture."""
    profile = tmp_path / "storescp.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        f"[[PresentationContexts]]\n[Captures]\nPresentationContext1 = {CLASSES[CAPTURE]}\\Plain\n"
        "[[Profiles]]\n[Old]\nPresentationContexts = Captures\n"
    )
    (tmp_path / "received").mkdir()
    port = settings.destination[0].port
    process = subprocess.Popen(
        [require("storescp"), "-aet", "PACS", "-od", tmp_path / "received", "-xf", profile, "Old", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: listens(port), 10)
        assert deliverer.attempt(study, "pacs", 1) == ""
    finally:
        process.terminate()
        process.wait()
    (received,) = (tmp_path / "received").iterdir()
    assert dcmread(received).SOPClassUID == CLASSES[CAPTURE]
    assert ledger(engine) == {ENHANCED: NOT_TAKEN, CAPTURE: SENT}


def test_one_that_takes_none_is_tried_again_and_nothing_is_given_up(deliverer, settings, engine, study):
    port = settings.destination[0].port
    with accepting(port, CTImageStorage):  # not even C-FIND, so that there is no association at all
        assert "accepts no presentation context: none of Enhanced MR Image St" in deliverer.attempt(study, "pacs", 1)
    with accepting(port, CTImageStorage, StudyRootQueryRetrieveInformationModelFind):
        problem = deliverer.attempt(study, "pacs", 2)
    assert "accepts no presentation context for enhanced_mr, nor for another of its kinds" in problem
    assert ledger(engine) == {ENHANCED: QUEUED, CAPTURE: SPARE}
    with accepting(port, *CLASSES.values()) as received:  # its administrator has mended that
        assert deliverer.attempt(study, "pacs", 3) == ""
    assert received == [CLASSES[ENHANCED]]


def test_a_destination_that_is_down_changes_nothing(deliverer, engine, study):
    assert "cannot be reached" in deliverer.attempt(study, "pacs", 1)
    assert ledger(engine) == {ENHANCED: QUEUED, CAPTURE: SPARE}


@pytest.mark.parametrize("state", ["SENDING", SENT])
def test_what_has_begun_to_be_sent_is_not_exchanged(settings, engine, study, state):
    with Session(engine) as session, session.begin():
        session.scalars(select(Delivery).where(Delivery.state == QUEUED)).one().state = state
    choose_kind(engine, study, settings.destination[0], lambda uid: uid == CLASSES[CAPTURE])
    assert ledger(engine) == {ENHANCED: state, CAPTURE: SPARE}


def test_without_a_spare_the_refusal_is_told(settings, engine, study):
    with pytest.raises(RefusedError, match="enhanced_mr, nor for another of its kinds"):
        choose_kind(engine, study, settings.destination[0], lambda uid: False)


def test_what_is_made_and_how_it_begins():
    def pacs(*kinds: str) -> DimseDestination:
        return DimseDestination.model_validate(
            {"kind": "dimse", "name": "pacs", "ae_title": "PACS", "host": "h", "port": 104, "confirm": "none",
             "find_after_crash": False, "kinds": kinds}
        )  # fmt: skip

    folder = FolderDestination(kind="folder", name="f", path=Path("x"))
    assert kinds_for(folder) == kinds_for(pacs()) == ()
    assert kinds_to_make([folder, pacs()], [ENHANCED]) == (ENHANCED,)
    assert kinds_to_make([folder, pacs(CAPTURE, ENHANCED)], [ENHANCED]) == (ENHANCED, CAPTURE)
    assert [first_state(folder, kind, [ENHANCED]) for kind in CLASSES] == [QUEUED, None]
    assert [first_state(pacs(), kind, [ENHANCED, CAPTURE]) for kind in CLASSES] == [QUEUED, QUEUED]
    assert [first_state(pacs(CAPTURE, ENHANCED), kind, [ENHANCED]) for kind in CLASSES] == [SPARE, QUEUED]
    assert [first_state(pacs(CAPTURE), kind, [ENHANCED]) for kind in CLASSES] == [None, QUEUED]
    with pytest.raises(ValueError, match="stands twice"):
        pacs(CAPTURE, CAPTURE)
