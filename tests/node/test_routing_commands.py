"""`quarterdose rules` as a person meets it: the real command on files, folders and studies in the database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from node.associations import Associations
from node.checks import check_everything
from node.cli import app
from node.collect import Collector
from node.database import open_database, ready
from node.engine import WorkStarter
from node.errors import CommandError
from node.settings import ConfigurationError, load_settings
from tests.conftest import ConfigMaker
from tests.node.collecting import low_dose, quiet_for, receive, study_of, t1

REAL = Path(__file__).parents[3] / "shared/data/real/siemens_xa30"
RULES = """
[[rule]]
name = "knee"
study_description = "knee"
process = false
reason = "only brains"

[[rule]]
name = "emergency"
ae_title = "^(ER|PACS)$"
time_of_day = ["19:00", "07:00"]
priority = "stat"

[[rule]]
name = "adults on a Prisma"
model_name = "prisma"
age = [18, 150]
roles = ["t1", "adc"]
destinations = ["pacs"]
priority = "requested"

[[rule]]
name = "everything else"
"""


@pytest.fixture
def config(make_config: ConfigMaker) -> Path:
    path = make_config(required='["t1", "low_dose"]', optional="[]")
    path.write_text(path.read_text() + RULES)
    return path


def rules(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["rules", *map(str, arguments)])


def tried(config: Path, *arguments: str | Path) -> dict[str, object]:
    done = rules("test", *arguments, "--json", "--config", config)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_list_shows_conditions_and_what_follows(config):
    shown = rules("list", "--config", config).output
    assert "only" in shown
    assert "[19:00," in shown
    listed = json.loads(rules("list", "--json", "--config", config).output)
    assert [rule["name"] for rule in listed] == ["knee", "emergency", "adults on a Prisma", "everything else"]
    assert listed[2]["age"] == [18, 150]


def test_without_rules_it_says_what_happens(make_config):
    config = make_config()
    assert "every study is processed" in rules("list", "--config", config).output
    trial = tried(config, REAL / "t1")
    assert (trial["rules"], trial["decides"], trial["process"]) == ([], "", True)


def test_a_real_study_on_disk(config):
    trial = tried(config, REAL, "--at", "12:00", "--ae-title", "ER")
    assert [rule["fits"] for rule in trial["rules"]] == [False, False, True, True]
    assert trial["decides"] == "adults on a Prisma"
    assert trial["follows"] == "processed, for pacs, priority routine"
    assert "no Requested Procedure Priority in the headers" in trial["because"]
    (time,) = [one for one in trial["rules"][1]["conditions"] if not one["holds"]]
    assert time["because"] == "time_of_day: 12:00 is not within 19:00 to 07:00"


def test_the_table_for_a_person(config):
    shown = rules("test", REAL / "t1", "--at", "19:00", "--ae-title", "ER", "--config", config).output
    assert 'the rule "emergency" decides: processed, for every destination, priority stat' in shown
    assert "would too" in shown
    assert "✗ study_description" in shown


def test_single_files_lack_the_roles_of_the_others(config):
    trial = tried(config, *sorted((REAL / "t1").iterdir()), "--at", "12:00")
    assert trial["decides"] == "everything else"
    assert "roles: adc not there" in [one["because"] for one in trial["rules"][2]["conditions"]]


def test_a_study_in_the_database_and_what_was_written_down_of_it(config, tmp_path):
    settings = load_settings(config)
    engine = open_database(settings)
    ready(engine)
    receive(engine, tmp_path, *t1(StudyDescription="Knee"), *low_dose())
    quiet_for(engine, 1e6)
    Collector(settings, engine, WorkStarter(engine), Associations()).look()
    key = study_of(engine).key
    trial = tried(config, key, "--at", "20:00")
    assert (trial["decides"], trial["process"], trial["recorded"]) == ("knee", False, "knee")
    assert trial["rules"][1]["fits"], "PACS sent it"
    config.write_text(config.read_text().replace('"knee"\nstudy', '"hip"\nstudy').replace('= "knee"', '= "hip"'))
    trial = tried(config, key, "--at", "20:00")
    assert (trial["decides"], trial["recorded"]) == ("emergency", "knee"), "the dry run goes by the rules of today"
    assert rules("test", key, "--ae-title", "ER", "--config", config).exit_code == 2, "who sent it is known"
    shown = rules("test", key, "--at", "20:00", "--config", config).output
    assert 'as written down: the rule "knee": not processed: only brains' in shown


def test_a_study_that_is_still_being_received(config, tmp_path):
    settings = load_settings(config)
    engine = open_database(settings)
    ready(engine)
    receive(engine, tmp_path, *t1(StudyDescription="Knee"))
    trial = tried(config, study_of(engine).key)
    assert (trial["decides"], trial["recorded"]) == ("knee", None)
    study = study_of(engine)
    assert [study.unjudged, study.missing, study.series[0].role] == [True, [], None], "nothing is written"


def test_what_is_urgent_is_marked_in_the_list(config, tmp_path):
    config.write_text(config.read_text().replace('time_of_day = ["19:00", "07:00"]\n', ""))
    settings = load_settings(config)
    engine = open_database(settings)
    ready(engine)
    receive(engine, tmp_path, *t1(), *low_dose())
    quiet_for(engine, 1e6)
    Collector(settings, engine, WorkStarter(engine), Associations()).look()
    listed = CliRunner().invoke(app, ["studies", "list", "--config", str(config)], env={"COLUMNS": "200"}).output
    assert "QUEUED stat" in listed
    shown = CliRunner().invoke(app, ["studies", "show", study_of(engine).key, "--config", str(config)]).output
    assert "rule emergency: processed, for every destination, priority stat" in " ".join(shown.split())


def test_what_is_not_one_study_is_refused(config, tmp_path):
    t1(1)[0].save_as(tmp_path / "other.dcm", enforce_file_format=True)
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for paths, said in (
        ([REAL / "t1", tmp_path / "other.dcm"], "2 studies: name the files of one"),
        ([tmp_path / "note.txt"], "not a DICOM file"), ([tmp_path / "empty"], "no DICOM file"),
        ([tmp_path / "other.dcm", tmp_path / "gone.dcm"], "gone.dcm does not exist"),
    ):  # fmt: skip
        with pytest.raises(CommandError, match=said):
            raise rules("test", *paths, "--config", config).exception
    assert tried(config, tmp_path / "other.dcm", "--at", "12:00")["decides"] == "everything else"
    assert tried(config, tmp_path, "--at", "12:00")["decides"] == "everything else", "the note is passed over"


def test_a_rule_that_is_wrong_is_named(config):
    config.write_text(config.read_text().replace('"^(ER|PACS)$"', '"^(ER|PACS$"'))
    with pytest.raises(ConfigurationError, match=r'rule "emergency"\.ae_title'):
        raise rules("list", "--config", config).exception


def test_check_looks_at_the_weights_of_each_rule(config, tmp_path):
    config.write_text(config.read_text().replace('\npriority = "stat"', '\nmodel = "none"'))
    findings = {one.what: one for one in check_everything(load_settings(config))}
    assert not findings['weights of the rule "emergency"'].ok
    assert str(tmp_path / "none") in findings['weights of the rule "emergency"'].found
    assert findings["synthesis weights"].ok
