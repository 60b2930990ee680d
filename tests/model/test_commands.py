"""`quarterdose train` as a process: killed without warning, it goes on to the same weights."""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import model.train
from model.claim import claimed
from model.store import Model
from model.train import CHECKPOINT, read_checkpoint
from node.cli import app

from .tiny import tiny_cohort

COMMAND = Path(__file__).parents[2] / ".venv" / "bin" / "quarterdose"


def call(cohort, out):
    return [
        COMMAND, "train", cohort, "--out", out, "--role", "t1", "--role", "low_dose", "-C", "2", "--epochs", "8",
        "--precision", "fp32", "--hold-out", "head_3", "--set", "head=residual", "--set", "checkpoint_seconds=0",
    ]  # fmt: skip


def digest(out):
    return hashlib.sha256((out / "model" / "weights.safetensors").read_bytes()).hexdigest()


@pytest.mark.timeout(600)
def test_killed_with_signal_9_it_resumes_to_the_same_weights(tmp_path):
    cohort = tmp_path / "cohort"
    tiny_cohort(cohort, 8)
    subprocess.run(call(cohort, tmp_path / "whole"), check=True, capture_output=True)

    killed = tmp_path / "killed"
    with subprocess.Popen(call(cohort, killed), stdout=subprocess.DEVNULL) as process:
        while not (killed / "run" / CHECKPOINT).exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    step = read_checkpoint(killed / "run" / CHECKPOINT)["step"]
    assert 0 < step < 6 * 8, "it was killed in the middle"
    said = subprocess.run(call(cohort, killed), check=True, capture_output=True, text=True)
    assert digest(killed) == digest(tmp_path / "whole")

    assert "this network" in said.stdout  # judged on the head that was held out
    assert "low dose as it is" in said.stdout
    model = Model.load(killed / "model", "cpu")
    assert model.card.results[0].subjects == 2
    assert "computed in: float32" in model.card.training
    previews = sorted(path.name for path in (tmp_path / "whole" / "watch").glob("*.png"))
    assert previews == ["preview-000006.png", "preview-000012.png", "preview-000024.png", "preview-000048.png"]


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    tiny_cohort(tmp_path / "cohort", 2)
    run = tmp_path / "out" / "run"
    run.mkdir(parents=True)
    arguments = ["train", tmp_path / "cohort", "--out", tmp_path / "out", "--role", "t1", "-C", "2", "--epochs", "1",
                 "--precision", "fp32"]  # fmt: skip
    with claimed(run, wait=False):
        said = CliRunner().invoke(app, [str(one) for one in arguments])
    assert said.exit_code == 1
    assert "another process is training in" in str(said.exception)
    assert not (run / CHECKPOINT).exists() and not (tmp_path / "out" / "model").exists()
    assert CliRunner().invoke(app, [str(one) for one in arguments]).exit_code == 0


def test_what_is_wrong_is_one_line(tmp_path):
    tiny_cohort(tmp_path / "cohort", 2)
    said = subprocess.run(
        [COMMAND, "validate", tmp_path / "cohort", "--out", tmp_path, "--role", "t1", "--set", "head=difference"],
        capture_output=True, text=True, env=os.environ | {"COLUMNS": "300"},
    )  # fmt: skip
    assert said.returncode == 2, "wrong usage"
    assert "needs low_dose among the inputs" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_cohort_whose_arrays_are_not_those_of_its_digest_is_not_trained_on(tmp_path):
    tiny_cohort(tmp_path / "cohort", 2)
    path = tmp_path / "cohort" / "subject_001" / "target.npy"
    target = np.load(path)
    target[16, 16, 16] = 0
    np.save(path, target)
    said = CliRunner().invoke(app, ["validate", str(tmp_path / "cohort"), "--out", str(tmp_path / "out")])
    assert said.exit_code == 1
    assert "subject subject_001" in str(said.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--role", "t1", "--hold-out", "head_0", "--hold-out", "head_1"], "every subject is held out"),
        (["--set", "architecture=gong", "--set", "loss=l1"], "`validate --method gong`"),
    ],
)
def test_what_cannot_become_a_model_is_said_before_it_is_trained(tmp_path, options, complaint):
    tiny_cohort(tmp_path / "cohort", 2)
    said = CliRunner().invoke(app, ["train", str(tmp_path / "cohort"), "--out", str(tmp_path / "out"), *options])
    assert said.exit_code == 1
    assert complaint in str(said.exception)
    assert not (tmp_path / "out").exists()


def test_a_series_that_is_no_input_is_no_role(tmp_path):
    tiny_cohort(tmp_path / "cohort", 2)
    for command in (["train", tmp_path / "cohort", "--out", tmp_path / "out"], ["cohort", "add", tmp_path / "other"]):
        said = CliRunner().invoke(app, [*map(str, command), "--role", "t1", "--role", "dwi"])
        assert said.exit_code == 2
        assert "'dwi' is no input: t1, flair, adc, low_dose are" in said.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["cohort"]


def test_a_gpu_that_is_too_small_is_one_line(tmp_path, monkeypatch):
    tiny_cohort(tmp_path / "cohort", 2)

    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8")

    monkeypatch.setattr(model.train, "_step", full)
    arguments = ["train", tmp_path / "cohort", "--out", tmp_path / "out", "--role", "t1", "--precision", "fp32"]
    said = CliRunner().invoke(app, [str(one) for one in arguments])
    assert str(said.exception).startswith("CUDA out of memory: end what else runs there, or make --channels")


def test_the_papers_rows_need_all_its_inputs(tmp_path):
    tiny_cohort(tmp_path / "cohort", 2)
    said = CliRunner().invoke(
        app, ["ablate", str(tmp_path / "cohort"), "--out", str(tmp_path), "--paper-rows", "--role", "t1"]
    )
    assert said.exit_code == 1
    assert "subsets of all four inputs, not of t1" in str(said.exception)
