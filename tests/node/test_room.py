"""What the steps take from a study's route: its weights, and the places that its result is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.derive.series import DerivedSeries, Provenance
from node.errors import StudyError
from node.models.registry import choose, shipped_models
from node.results import enter_in_ledger
from node.room import Room
from node.routing.decide import WITHOUT_RULES, Route
from node.routing.record import assign
from node.settings import FolderDestination, Settings
from node.states import State
from node.tables import Delivery, Study, now
from preprocessing.role import Role
from tests.mr_slices import mr_slice

FOUR = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)
TWO = (Role.T1, Role.LOW_DOSE)


def shipped_for(roles: tuple[Role, ...]) -> str:
    return str(choose(shipped_models(), roles).folder)


@pytest.fixture
def room(settings: Settings, engine: Engine) -> Room:
    return Room(settings, engine)


def test_the_weights_are_those_of_the_rule_else_the_best_for_the_roles(room):
    assert room.model_for(FOUR, WITHOUT_RULES).roles == FOUR
    by_rule = replace(WITHOUT_RULES, rule="x", model=shipped_for(TWO))
    assert room.model_for(FOUR, by_rule).roles == TWO


def test_weights_of_a_rule_that_cannot_be_used_name_the_rule_and_the_remedy(room, tmp_path):
    gone = Route("my rule", "", model=str(tmp_path / "gone"))
    with pytest.raises(StudyError, match=r'gone.*the rule "my rule" names them: correct it, then'):
        room.model_for(FOUR, gone)
    with pytest.raises(StudyError, match=r'need flair, adc, which this study has not; the rule "my rule"'):
        room.model_for(TWO, replace(gone, model=shipped_for(FOUR)))


def test_the_ledger_has_rows_for_the_places_of_the_route(room, engine):
    places = [FolderDestination(kind="folder", name=name, path="/x") for name in ("a", "b", "c")]
    room.settings = room.settings.model_copy(update={"destination": tuple(places)})
    dataset = mr_slice("virtual", 1)
    made = DerivedSeries("enhanced_mr", dataset.SeriesInstanceUID, (dataset,))
    provenance = Provenance("m", "d" * 64, "1", "1" * 64, FOUR, now(), "")
    with Session(engine) as session, session.begin():
        study = Study(
            key="k", study_instance_uid="1.2", patient_id="", accession_number="", study_date="", run=1,
            state=State.DERIVING,
        )  # fmt: skip
        session.add(study)
        session.flush()
        assign(session, study, Route("x", "", destinations=("a", "c")), "node")
        enter_in_ledger(room, session, study.id, made, ["1.dcm"], provenance)
        session.flush()
        assert list(session.scalars(select(Delivery.destination))) == ["a", "c"]
        room.settings = room.settings.model_copy(update={"destination": (places[1],)})
        assign(session, study, WITHOUT_RULES, "node")
        enter_in_ledger(room, session, study.id, made, ["1.dcm"], provenance)
        session.flush()
        in_ledger = sorted(session.scalars(select(Delivery.destination)))
        assert in_ledger == ["a", "b", "c"], "the same result goes where it has not been, once it is made again"
