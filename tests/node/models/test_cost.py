"""What a study without all series is told: figures where two models were judged on the same subjects, else that."""

from dataclasses import replace

import pytest

from model.card import ModelCard
from model.evaluate import Figures, Result, Summary
from node.models.cost import cost
from node.models.registry import choose, shipped_models
from node.room import Room
from node.routing.decide import WITHOUT_RULES
from preprocessing.role import CHANNELS, Role

TWO = (Role.T1, Role.LOW_DOSE)


def result(method: str, psnr: float, t_l2: float | None) -> Result:
    figures = Figures(Summary(0.001, 0), Summary(t_l2, 0), Summary(psnr, 1), Summary(0.9, 0))
    return Result(method, 7, figures, figures)


def card(name: str, *results: Result) -> ModelCard:
    return ModelCard(name, "", name, "", "", "", (), results, ())


NOTHING = result("low dose as it is", 28.0, 0.02)
FULL = card("full", result("this network", 31.5, 0.00225), NOTHING)
POOR = card("poor", result("this network", 30.25, 0.003), NOTHING)


def test_the_figures_of_both_cards_stand_side_by_side():
    assert cost(POOR, FULL) == (
        "on the 7 subjects that judged it and full, "
        "PSNR in the brain 30.25 instead of 31.50 dB and t-L2 30.0 instead of 22.5 (1e-4)"
    )
    assert cost(FULL, POOR).startswith("on the 7 subjects that judged it and poor, PSNR in the brain 31.50 instead of")
    no_lesions = [replace(one, results=(result("this network", 31.0, None), NOTHING)) for one in (POOR, FULL)]
    assert "t-L2" not in cost(*no_lesions)


@pytest.mark.parametrize("rivals", [(), (result("low dose as it is", 28.1, 0.02),), (result("another", 28.0, 0.02),)])
def test_models_that_other_subjects_judged_are_not_compared(rivals):
    other = card("poor", POOR.results[0], *rivals)
    assert cost(other, FULL) == "what that costs is not known: poor and full were not judged on the same subjects"


def test_a_study_is_told_by_the_cards_that_ship(settings, engine):
    room = Room(settings, engine)
    model = room.model_for(TWO, WITHOUT_RULES)
    assert room.cost(model, CHANNELS) == ""
    said = room.cost(model, TWO)
    assert said.startswith("; without flair, adc: on the 7 subjects that judged it and c8_four_roles, PSNR in")
    best = ModelCard.read(choose(shipped_models(), CHANNELS).folder)
    assert f"instead of {best.results[0].brain.psnr.mean:.2f} dB" in said
