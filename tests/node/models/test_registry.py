"""Which weights a study gets after people have decided, and what a decision refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from model.card import CardError
from model.store import WEIGHTS, Model, WeightsError
from node.errors import CommandError, StudyError
from node.files import DataFolder
from node.models import registry
from node.models.registry import KnownModel, choose, decide, known_models, shipped_models
from node.models.standing import Standing
from node.room import Room
from node.routing.decide import WITHOUT_RULES
from node.settings import Settings
from node.tables import Event
from preprocessing.role import Role
from tests.model.test_store import write_model

FOUR = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)
TWO = (Role.T1, Role.LOW_DOSE)
Decide = Callable[..., KnownModel]


@pytest.fixture
def data(settings: Settings) -> DataFolder:
    return DataFolder(settings.node.data)


@pytest.fixture
def to(engine: Engine, data: DataFolder) -> Decide:
    def decided(standing: Standing, which: object, why: str = "the better one") -> KnownModel:
        return decide(engine, data, str(which), standing, "person anna", why)

    return decided


def in_use(engine: Engine, data: DataFolder, roles: tuple[Role, ...]) -> KnownModel:
    with Session(engine) as session:
        return choose(known_models(session, data), roles)


def test_without_decisions_the_shipped_weights_are_used(engine, data):
    assert in_use(engine, data, FOUR).name == "c8_four_roles"
    assert in_use(engine, data, (*FOUR, Role.DWI)).roles == FOUR
    assert in_use(engine, data, (*TWO, Role.FLAIR)).roles == TWO
    assert in_use(engine, data, TWO).standing is Standing.SHIPPED
    assert choose(shipped_models(), TWO) == in_use(engine, data, TWO)  # as long as there is no database
    with pytest.raises(WeightsError, match="no model in use can do with adc"):
        in_use(engine, data, (Role.ADC,))


def test_a_promoted_model_is_used_and_kept_whatever_becomes_of_its_folder(engine, data, to, tmp_path, settings):
    write_model(tmp_path / "mine", roles=TWO)
    promoted = to(Standing.PROMOTED, tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine")
    assert in_use(engine, data, TWO) == promoted
    assert Room(settings, engine).model_for(TWO, WITHOUT_RULES).digest == promoted.digest
    assert in_use(engine, data, FOUR).roles == FOUR  # a study that has more is not given less
    assert (promoted.who, promoted.why) == ("person anna", "the better one")


def test_the_last_promoted_goes_before_the_ones_before(engine, data, to, tmp_path):
    for seed in (1, 2):
        write_model(tmp_path / str(seed), roles=TWO, seed=seed)
    first, second = (to(Standing.PROMOTED, tmp_path / str(seed)) for seed in (1, 2))
    assert in_use(engine, data, TWO) == second
    again = to(Standing.PROMOTED, first.digest[:8])
    assert in_use(engine, data, TWO) == again
    to(Standing.RETIRED, first.digest)
    assert in_use(engine, data, TWO).digest == second.digest


def test_a_retired_model_is_not_used_even_where_it_is_named(engine, data, to, tmp_path, settings):
    write_model(tmp_path / "mine", roles=TWO)
    assert to(Standing.SHADOW, tmp_path / "mine").standing is Standing.SHADOW
    assert in_use(engine, data, TWO).standing is Standing.SHIPPED
    to(Standing.RETIRED, "tiny", "it makes ghosts")
    named = settings.model_copy(update={"model": settings.model.model_copy(update={"folder": str(tmp_path / "mine")})})
    with pytest.raises(StudyError, match=r"were retired \(it makes ghosts\)"):
        Room(named, engine).model_for(TWO, WITHOUT_RULES)


def test_every_decision_is_an_event_with_who_and_why(engine, to, tmp_path):
    write_model(tmp_path / "mine")
    to(Standing.SHADOW, tmp_path / "mine", "as good on paper")
    to(Standing.PROMOTED, "tiny", "better on a hundred studies")
    with Session(engine) as session:
        events = session.scalars(select(Event).order_by(Event.id)).all()
    assert [(event.what.partition(": ")[2], event.who, event.why) for event in events] == [
        ("shadow → shadow", "person anna", "as good on paper"),
        ("shadow → promoted", "person anna", "better on a hundred studies"),
    ]


def test_a_shipped_model_that_somebody_decided_on_outlives_an_update_of_the_product(engine, data, to, monkeypatch):
    shipped = in_use(engine, data, TWO)
    to(Standing.PROMOTED, shipped.digest, "this very one")
    monkeypatch.setattr(registry, "model_folders", tuple)  # the next version comes with others
    promoted = in_use(engine, data, TWO)
    assert (promoted.digest, promoted.standing) == (shipped.digest, Standing.PROMOTED)
    assert Model.load(promoted.folder, "cpu").digest == shipped.digest


def test_a_model_that_is_given_again_replaces_a_copy_that_was_damaged(data, to, tmp_path):
    write_model(tmp_path / "mine")
    kept = data.model(to(Standing.SHADOW, tmp_path / "mine").digest)
    (kept / WEIGHTS).write_bytes(b"rotten")
    to(Standing.PROMOTED, tmp_path / "mine")
    assert Model.load(kept, "cpu").card.name == "tiny"


def test_two_people_cannot_retire_the_last_two_models_at_once(engine, data, to, monkeypatch):
    with Session(engine) as session:
        shipped = known_models(session, data)
    for known in shipped[:-2]:
        to(Standing.RETIRED, known.digest)
    found = registry.find_model

    def meanwhile(models, which):
        monkeypatch.setattr(registry, "find_model", found)
        to(Standing.RETIRED, shipped[-2].digest)
        return found(models, which)

    monkeypatch.setattr(registry, "find_model", meanwhile)
    with pytest.raises(CommandError, match="the only model in use"):
        to(Standing.RETIRED, shipped[-1].digest)


def test_what_is_refused(engine, data, to, tmp_path):
    with pytest.raises(CommandError, match="--because"):
        to(Standing.PROMOTED, "tiny", " ")
    with pytest.raises(CommandError, match="no model answers to 'nobody'"):
        to(Standing.PROMOTED, "nobody")
    write_model(tmp_path / "broken")
    (tmp_path / "broken" / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="not the file that its card describes"):
        to(Standing.PROMOTED, tmp_path / "broken")
    with pytest.raises((CardError, WeightsError)):
        to(Standing.PROMOTED, tmp_path)
    with Session(engine) as session:
        shipped = [known for known in known_models(session, data) if known.standing is Standing.SHIPPED]
    for known in shipped[:-1]:
        to(Standing.RETIRED, known.digest)
    with pytest.raises(CommandError, match="the only model in use"):
        to(Standing.RETIRED, shipped[-1].digest)


def test_a_model_that_is_known_is_not_taken_in_twice(engine, data, to, tmp_path):
    write_model(tmp_path / "a")
    write_model(tmp_path / "b")
    assert to(Standing.SHADOW, tmp_path / "a").digest == to(Standing.PROMOTED, tmp_path / "b").digest
    assert Model.load(data.model(in_use(engine, data, TWO).digest), "cpu").roles == TWO
    with Session(engine) as session:
        assert len([one for one in known_models(session, data) if one.name == "tiny"]) == 1
