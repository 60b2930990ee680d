"""Folds are trained once, shared between studies, and taken up where they were left."""

import json
import math
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from model import report
from model.ablate import backward_elimination, every_subset, table_1
from model.claim import claimed
from model.cohort import Cohort, CohortError, write_subject
from model.contenders import Linear, Nothing, Trained, contenders
from model.crossvalidate import Plan, cross_validate, judged_folder
from model.folds import folds
from model.judge import Judgement
from model.losses import Loss
from model.network import Head
from model.pictures import figure_3, telling
from model.rivals import fit_extrapolation
from model.scale import draw_figure_4, figure_4_table, forecast, power_law, scale
from model.training_settings import TrainingSettings, settings_from
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort, tiny_subject, validated

SETTINGS = TrainingSettings(roles=ROLES, channels=2, epochs=1, crop=16, half_precision=False)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return Plan(tiny_cohort(folder / "cohort", 8), folder / "runs", folds=2)


def no_fit(*arguments):
    raise AssertionError("it was trained again")


def test_what_is_there_is_not_computed_again(plan, monkeypatch):
    told = []
    first = validated(plan, Trained("net", SETTINGS), told.append)
    assert {one.fold for one in told} == {1, 2}
    assert [one.subject for one in first.judgements] == [record.name for record in plan.cohort.subjects]
    monkeypatch.setattr(Trained, "fit", no_fit)
    assert str(validated(plan, Trained("net", SETTINGS)).judgements) == str(first.judgements)


def test_a_study_that_was_killed_judges_only_who_is_missing(plan, monkeypatch):
    result = validated(plan, Nothing())
    place = judged_folder(result.runs[1], folds(plan.cohort, 2)[1])
    gone, kept = sorted(place.glob("*.json"))[:2]
    moment, content = kept.stat().st_mtime_ns, gone.read_text()
    gone.unlink()
    again = validated(plan, Nothing())
    assert (gone.read_text(), kept.stat().st_mtime_ns) == (content, moment)
    assert str(again.judgements) == str(result.judgements)


def test_a_judgement_that_cannot_be_read_is_made_again(plan):
    result = validated(plan, Nothing())
    for content in ("", "{}"):
        next(iter(judged_folder(result.runs[0], folds(plan.cohort, 2)[0]).glob("*.json"))).write_text(content)
        assert str(validated(plan, Nothing()).judgements) == str(result.judgements)


def test_a_test_subject_that_has_changed_is_judged_again(tmp_path):
    cohort = tiny_cohort(tmp_path / "cohort", 4)
    plan = Plan(cohort, tmp_path / "runs", folds=2)
    before = validated(plan, Nothing())
    changed = folds(cohort, 2)[0].test.subjects[0]
    subject = replace(tiny_subject(int(changed.name[-3:])), target=tiny_subject(77).target)
    write_subject(cohort.folder, changed.name, changed.anatomy, ROLES, subject)
    after = validated(replace(plan, cohort=Cohort.open(cohort.folder)), Nothing())
    assert after.runs[0] == before.runs[0]  # whom that network learned from is what it was
    l2 = [{one.subject: one.grid.l2 for one in result.judgements} for result in (before, after)]
    assert {name for name in l2[0] if l2[0][name] != l2[1][name]} == {changed.name}


def test_what_another_process_is_at_is_left_for_last_and_finished_if_that_died(plan):
    first, second = validated(plan, Nothing()).runs
    for run in (first, second):
        for path in run.glob("judged-*/*.json"):
            path.unlink()
    another, heard = ExitStack(), []
    assert another.enter_context(claimed(first, wait=False))

    def told(one):
        heard.append((one.fold, one.what))
        if one.what == "another process is at it":
            another.close()

    assert len(validated(plan, Nothing(), told).judgements) == 8
    assert [one for one in heard if not one[1].startswith("judging")] == [
        (2, "done"), (1, "another process is at it"), (1, "done")
    ]  # fmt: skip
    assert heard[-2][0] == 1 and heard[-2][1].startswith("judging")


def test_every_setting_and_every_training_subject_has_a_run_of_its_own(plan):
    runs = set()
    for contender in (Trained("a", SETTINGS), Trained("b", replace(SETTINGS, seed=1)), Nothing(), Linear("l", 4.0)):
        runs |= set(validated(plan, contender).runs)
    assert len(runs) == 8
    assert set(validated(plan, Trained("another name", SETTINGS)).runs) <= runs
    about = json.loads((next(iter(runs)) / "run.json").read_text())
    assert about["subjects"] in [[r.name for r in fold.train.subjects] for fold in folds(plan.cohort, 2)]
    for contender, computed in ((Trained("a", SETTINGS), ["float32"]), (Nothing(), [])):
        about = json.loads((validated(plan, contender).runs[0] / "run.json").read_text())
        assert about["computed_in"] == computed


def test_what_cannot_be_done_is_said_before_anything_is_trained(plan):
    heard = []
    possible = (plan, Trained("net", replace(SETTINGS, seed=7)))
    with pytest.raises(CohortError, match="not flair"):
        cross_validate([possible, (plan, Trained("other", replace(SETTINGS, roles=(Role.FLAIR,))))], heard.append)
    with pytest.raises(ValueError, match="at most 1, not 2"):
        scale(plan, replace(SETTINGS, seed=7), [2], [1.0, 2], heard.append)
    with pytest.raises(ValueError, match="needs t1 among the inputs, which are low_dose"):
        backward_elimination(plan, replace(SETTINGS, seed=7, loss=Loss.ENHANCEMENT), heard.append)
    assert heard == []


def test_rivals_stand_beside_whatever_variant_of_the_paper():
    settings = replace(SETTINGS, head=Head.DIFFERENCE, shared_scale=True, loss=Loss.HUBER)
    methods = contenders(["paper", "rivals"], settings)
    assert [one.settings.roles for one in methods if isinstance(one, Trained)] == [ROLES, ROLES, (Role.T1,)]


def test_k_is_fitted_on_the_training_fold_alone(plan):
    result = validated(plan, Linear("fitted", None))
    for fold, judged in zip(folds(plan.cohort, 2), result.folds, strict=True):
        k = fit_extrapolation(fold.train)
        same = validated(plan, Linear("given", k))
        expected = {one.subject: one.grid.l2 for one in same.judgements}
        assert all(one.grid.l2 == expected[one.subject] for one in judged)


def test_a_judgement_reads_back(plan):
    one = validated(plan, Trained("net", SETTINGS)).judgements[1]
    path = plan.runs / "one.json"
    one.write(path)
    assert str(Judgement.read(path)) == str(one)  # NaN is not equal to itself
    assert one.detection.lesions
    assert not math.isnan(one.virtual.cnr)


def test_tables_have_every_method_and_the_ceiling(plan):
    results = [validated(plan, one) for one in contenders(["nothing", "linear"], SETTINGS)]
    results.append(validated(plan, Trained("net", SETTINGS)))
    scores = report.scores_table(results)
    assert [row[:2] for row in scores.rows][::2] == [(one.contender.name, "whole grid") for one in results]
    seen = report.detection_table(results)
    assert seen.rows[-1][0] == "the full dose itself"
    assert len(report.appearance_table(results).rows) == 4
    assert [row[0] for row in report.calibration_table(results).rows] == ["net"]  # no other tells an uncertainty
    assert len(report.subjects_table(results).rows) == 3 * 8
    mean = np.mean([one.grid.l2 for one in results[0].judgements]) * 1e5
    assert scores.rows[0][2].startswith(f"{mean:.1f} (")


def test_figure_3_is_drawn_from_what_was_kept(plan, tmp_path):
    names = telling(plan.cohort)
    assert not plan.cohort.read(next(r for r in plan.cohort.subjects if r.name == names[-1])).lesion.any()
    drawn = replace(plan, drawn=frozenset(names))
    result = validated(drawn, Nothing())
    figure_3(tmp_path / "figure3.png", drawn, result.runs, names)
    picture = imread(tmp_path / "figure3.png")[..., :3]
    height, width, _ = picture.shape
    assert width / height == pytest.approx((1.8 * 5) / (2.1 * len(names)), rel=0.01)  # five columns
    found = [one.detection.lesions for one in result.judgements if one.subject in names]
    seen = {lesion.in_virtual for lesions in found for lesion in lesions}
    for colour, there in (("#39ff14", True in seen), ("#ff3030", False in seen)):
        assert (np.abs(picture - to_rgb(colour)).max(axis=2) < 0.2).any() == there, colour


def test_backward_elimination_drops_the_least_missed_and_shares_its_runs(plan, monkeypatch):
    results = backward_elimination(plan, SETTINGS, lambda happening: None)
    assert [set(one.contender.roles) for one in results] == [set(ROLES), {Role.T1}, {Role.LOW_DOSE}]
    assert validated(plan, Trained("net", SETTINGS)).runs == results[0].runs
    monkeypatch.setattr(Trained, "fit", no_fit)
    subsets = every_subset(plan, SETTINGS, lambda happening: None)
    assert {one.runs for one in subsets} == {one.runs for one in results}
    table = table_1(results)
    assert table.rows[0][:4] == ("✓", "✓", "✗", "✗")
    assert table.rows[0][5] == "31.3 (11.5)"  # the paper's, for these two inputs


def test_figure_4_shares_its_whole_folds_and_extrapolates(plan, tmp_path):
    points = scale(plan, SETTINGS, [2], [0.25, 0.5, 1.0], lambda happening: None)
    assert points[-1].result.runs == validated(plan, Trained("net", SETTINGS)).runs
    assert [len(json.loads((one.result.runs[0] / "run.json").read_text())["subjects"]) for one in points] == [1, 2, 4]
    told = forecast(points, "l2")
    assert told.low <= told.high
    assert forecast(points[1:], "l2") is None
    assert forecast([points[0], *points[:2]], "l2") is None  # the same fraction twice
    rows = figure_4_table(points).rows
    assert [row[1] for row in rows] == ["25%", "50%", "100%", "200%, extrapolated", "200%, by eye"]
    draw_figure_4(tmp_path / "figure4.png", points)
    assert (tmp_path / "figure4.png").stat().st_size > 5000


def test_a_power_law_is_continued():
    fractions = np.array([0.25, 0.5, 0.75, 1.0])
    falling = 30 + 4 * fractions**-0.8
    assert power_law(fractions, falling, 1, 2.0) == pytest.approx(30 + 4 * 2**-0.8, abs=0.02)
    rising = 35 - 0.9 * fractions**-0.5
    assert power_law(fractions, rising, -1, 2.0) == pytest.approx(35 - 0.9 * 2**-0.5, abs=0.02)
    assert power_law(fractions, -falling, 1, 2.0) == pytest.approx(-falling.mean())  # more data never harms


def test_names_and_settings_that_do_not_exist_are_said():
    with pytest.raises(ValueError, match="no method is called best"):
        contenders(["paper", "best"], SETTINGS)
    with pytest.raises(ValueError, match="no setting widht"):
        settings_from({"widht": 3})
    with pytest.raises(ValueError, match=r"epochs.*'many'"):
        settings_from({"epochs": "many"})
    with pytest.raises(ValueError, match=r"^crop must be a multiple of 16, not 31$"):
        settings_from({"crop": "31"})
    given = settings_from({"crop": "64", "head": "residual", "cosine_decay": "true", "gradient_limit": None})
    assert (given.crop, given.head, given.cosine_decay, given.gradient_limit) == (64, "residual", True, None)
