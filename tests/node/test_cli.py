"""The command line as a person meets it: real processes, exit codes, and errors that say what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from node.database import newest_revision, open_database, ready
from node.engine import is_at_work, lock
from node.settings import load_settings
from node.states import State
from node.tables import Event, Quarantined, Study
from simulator.archive.server import Archive
from tests.conftest import ROOT, ConfigMaker
from tests.mr_slices import mr_slice


def run(*arguments: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "node.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def config(make_config: ConfigMaker) -> Path:
    return make_config()


@pytest.fixture
def study(config: Path) -> str:
    """A study that waits for its low-dose series; its key."""
    engine = open_database(load_settings(config))
    ready(engine)
    with Session(engine) as session, session.begin():
        row = Study(
            key="abc123", study_instance_uid="1.2.3", patient_id="P1", accession_number="A1", study_date="[/x]",
            state=State.INCOMPLETE, reason="low_dose: no T1-weighted series after the low dose", missing=["low_dose"],
        )  # fmt: skip
        session.add(row)
        session.flush()
        session.add(Event(study_id=row.id, who="node", what="RECEIVING → INCOMPLETE", why="low_dose"))
        session.add(
            Quarantined(
                digest="d", path="quarantine/d.dcm", size=7, sender="PACS@10.0.0.1", reason="truncated [bold]",
                claimed_study="1.2.3",
            )
        )  # fmt: skip
    return "abc123"


@pytest.mark.parametrize(
    "command",
    [(), ("run",), ("demo",), ("simulate",), ("send",), ("echo",), ("check",), ("studies",), ("studies", "retry"),
     ("rules",), ("rules", "test"), ("models",), ("models", "shadow"),
     ("db", "upgrade")],
)  # fmt: skip
def test_every_command_has_help(command):
    assert "Usage" in run(*command, "--help")


def test_help_shows_a_query_as_it_is_typed():
    assert "StudyDescription=*HEAD*" in run("pull", "--help")


def test_a_missing_configuration_is_a_usage_error_with_the_remedy(tmp_path):
    assert "--config" in run("studies", "list", "--config", tmp_path / "none.toml", code=2)


def test_lists_are_tables_for_people_and_json_for_programs(config, study):
    assert study in run("studies", "list", "--config", config)
    assert json.loads(run("studies", "list", "--json", "--config", config))[0]["state"] == "INCOMPLETE"
    assert json.loads(run("studies", "list", "--state", "FAILED", "--json", "--config", config)) == []
    assert json.loads(run("studies", "quarantine", "--json", "--config", config))[0]["reason"] == "truncated [bold]"


def test_events_are_those_of_all_studies_and_of_the_node_itself(config, study):
    with Session(open_database(load_settings(config))) as session, session.begin():
        for number in range(3):
            why = f"calling AE title 'STRANGER' is not in [receiver] {number}"
            session.add(Event(study_id=None, who="STRANGER@10.0.0.9", what="association refused", why=why))
    told = json.loads(run("events", "--json", "--config", config))
    assert [(row["study"], row["what"]) for row in told[:2]] == [
        ("abc123", "RECEIVING → INCOMPLETE"), ("", "association refused"),
    ]  # fmt: skip
    newest = json.loads(run("events", "--node", "--last", "2", "--json", "--config", config))
    assert [row["why"][-1] for row in newest] == ["1", "2"]
    for_people = " ".join(run("events", "--config", config).split())
    assert "abc123" in for_people and "[receiver]" in for_people, "text from outside is not taken for markup"


@pytest.mark.parametrize(
    "command", [("studies", "list"), ("studies", "quarantine"), ("pulls", "list"), ("events",),
     ("models", "retire", "c8", "--because", "x")],
)
def test_who_asks_before_the_first_start_is_told_so_and_makes_no_database(config, command):
    """It would belong to the person who asked, root for one, and the node's user could not write it."""
    before = sorted(config.parent.rglob("*"))
    said = run(*command, "--config", config, code=2)
    assert "there is no database" in said and "quarterdose run" in said
    assert "c8_four_roles" in run("models", "list", "--config", config)
    assert sorted(config.parent.rglob("*")) == before


def test_who_takes_a_model_out_of_use_reads_whose_results_are_sent_now(config):
    run("db", "upgrade", "--config", config)
    said = run("models", "shadow", "c8_four_roles", "--because", "compare", "--config", config).splitlines()
    assert "is shadow" in said[0]
    assert "results are now sent of c8_t1_low_dose" in said[1] and "four" not in said[1]
    assert "sent of c8_four_roles" in run("models", "promote", "c8_four_roles", "--because", "x", "--config", config)


@pytest.mark.parametrize("name", ["abc123", "abc", "1.2.3", "A1"])
def test_a_study_is_found_by_key_uid_or_accession_number(config, study, name):
    shown = run("studies", "show", name, "--config", config)
    assert "no T1-weighted series after the low dose" in shown
    assert "truncated [bold]" in shown, "text from outside is not taken for markup"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("pull --study abc", "no Study Instance UID"),
        ("pull --query StudyDate=2026-01-01", "dates are written 20260101"),
        ("train . --out x --precision fp8", "bf16, fp16 or fp32"),
        ("train . --out x --set batc=2", "there is no setting batc"),
        ("simulate --out x --field 7", "not simulated"),
        ("simulate --out x --artefact blur=0.5", "is not known"),
        ("cohort add x", "nothing to add"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(config, command, said):
    words = command.split()
    option = ["--config", str(config)] if words[0] == "pull" else []
    assert said in " ".join(run(*words, *option, code=2).replace("│", " ").split())


@pytest.mark.parametrize("name", ["nothing", "%", "_bc123"])
def test_an_unknown_study_has_its_own_exit_code(config, study, name):
    assert "studies list" in run("studies", "show", name, "--config", config, code=3)


def test_an_action_that_does_not_fit_is_refused_with_the_reason(config, study):
    run("studies", "cancel", study, "--config", config)
    assert "cannot become CANCELLED" not in run("studies", "show", study, "--config", config)
    run("studies", "cancel", study, "--config", config)  # twice is once
    shown = json.loads(run("studies", "show", study, "--json", "--config", config))
    assert shown["state"] == "CANCELLED"
    assert [event["what"] for event in shown["events"]][1:] == ["INCOMPLETE → CANCELLED"]


def test_an_old_database_is_refused_until_it_is_upgraded(config, study):
    engine = open_database(load_settings(config))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    assert "quarterdose db upgrade" in run("studies", "list", "--config", config, code=2)


def test_a_database_of_a_newer_version_is_not_to_be_upgraded(config, study):
    engine = open_database(load_settings(config))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9000'")
    for command in (("studies", "list"), ("db", "upgrade")):
        assert "install the newer version" in run(*command, "--config", config, code=2)


def test_a_damaged_database_is_told_in_one_line_and_by_check(config):
    data = load_settings(config).node.data
    data.mkdir()
    (data / "node.sqlite").write_bytes(b"not SQLite at all" * 100)
    assert "is damaged" in run("studies", "list", "--config", config, code=2)
    findings = {row["what"]: row for row in json.loads(run("check", "--json", "--config", config, code=1))}
    assert "is damaged" in findings["database"]["found"]


def test_a_port_that_is_taken_is_named(config):
    receiver = load_settings(config).receiver
    with socket.create_server((receiver.host, receiver.port)):
        told = run("run", "--config", config, code=1)
    assert f"receiver.port, 127.0.0.1:{receiver.port}: Address already in use; another program" in told


def test_upgrade_makes_a_new_database(config):
    newest = f"revision {newest_revision()}"
    assert newest in run("db", "upgrade", "--config", config)
    assert newest in run("db", "upgrade", "--config", config), "and again changes nothing"


def test_check_names_what_is_wrong_and_echo_and_send_agree(config, tmp_path):
    place = load_settings(config).destination[0]
    findings = {row["what"]: row for row in json.loads(run("check", "--json", "--config", config, code=1))}
    assert not findings["destination pacs"]["ok"]
    assert findings["data folder"]["ok"]
    assert not load_settings(config).node.data.exists(), "it would belong to whoever checks, not to the node's user"
    assert findings["brain extraction weights"]["ok"]
    assert findings["synthesis weights"]["ok"]
    assert "cannot be reached" in run("echo", "--to", "pacs", "--config", config, code=1)
    mr_slice("t1", 1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    with Archive("PACS", place.port, tmp_path / "archive") as archive:
        assert "answers" in run("echo", "--to", f"PACS@127.0.0.1:{place.port}", "--as", "ME")
        assert "1 instances are at" in run("send", tmp_path / "one.dcm", "--to", "pacs", "--config", config)
        (tmp_path / "simulated").mkdir()
        mr_slice("t1", 2).save_as(tmp_path / "simulated" / "two", enforce_file_format=True)
        (tmp_path / "simulated" / "cohort.json").write_text("{}")
        (tmp_path / "simulated" / "lesions.nii.gz").write_bytes(b"no DICOM")
        told = run("send", tmp_path / "simulated", "--to", "pacs", "--config", config)
        assert "1 instances are at" in told
        assert "2 files are no DICOM" in told
        wrong = run("echo", "--to", f"WRONG@127.0.0.1:{place.port}", "--as", "ME", code=1)
        assert "Called AE title not recognised; it calls itself otherwise" in wrong
        assert len(archive.received()) == 2
        assert "ok" in run("check", "--config", config)


def test_what_is_no_dicom_file_is_not_sent(config, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    assert "is not a DICOM file" in run("send", tmp_path / "note.txt", "--to", "pacs", "--config", config, code=1)
    assert "there is no DICOM file in" in run("send", tmp_path, "--to", "pacs", "--config", config, code=1)


def test_a_port_that_is_none_is_refused():
    for port in (0, 65536, 99999):
        assert "a port is 1 to 65535" in run("echo", "--to", f"PACS@127.0.0.1:{port}", "--as", "ME", code=2)


def test_a_user_whose_line_would_be_a_comment_is_refused():
    assert "other than #" in run("user", "#anna", "--passcode", "x", code=2)


def test_two_nodes_on_one_data_folder_are_refused(config):
    held = lock(load_settings(config))
    assert "another node" in run("run", "--config", config, code=1)
    held.close()


def test_whether_a_node_is_at_work(config):
    settings = load_settings(config)
    assert not is_at_work(settings), "there is no data folder yet"
    held = lock(settings)
    assert is_at_work(settings)
    held.close()
    assert not is_at_work(settings)


def test_a_database_is_not_upgraded_under_a_running_node(config):
    held = lock(load_settings(config))
    assert "stop it" in run("db", "upgrade", "--config", config, code=1)
    held.close()


def test_a_person_is_told_when_no_node_is_there_to_go_on(config, study):
    key = [study, "--config", config]
    assert "send it, or force the study" in run("studies", "retry", *key, code=1)
    assert "it goes on when a node is started: run 1" in run("studies", "force", *key)


def test_what_cannot_be_simulated_is_one_line(tmp_path):
    wrong = run("simulate", "--out", tmp_path, "--vendor", "ge", "--layout", "mosaic", code=2)
    assert "mosaics are Siemens' own" in wrong
    assert "t1.nii.gz" in run("simulate", "--out", tmp_path, "--from-nifti", tmp_path, code=1)
    assert "head_" in run("simulate", "--out", tmp_path, "--anatomy", tmp_path, code=1)


def test_a_wrapped_patient_is_written(tmp_path):
    patient = ROOT.parent / "shared" / "data" / "real" / "glioma_tcga_fg_6692"
    assert "104 instances" in run("simulate", "--out", tmp_path, "--from-nifti", patient)
    assert len(list(tmp_path.rglob("*.dcm"))) == 104
