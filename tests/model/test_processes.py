"""Several processes, as ``torchrun`` starts them, come to what one comes to: the same tables, weights and gradients."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from model.cohort import write_subject
from model.processes import ALONE, Process, joined, started
from model.train import CHECKPOINT, TrainingError, computed_in, read_checkpoint, train
from model.training_settings import Architecture, TrainingSettings
from node.cli import app
from preprocessing.processor import use_threads

from .tiny import ROLES, tiny_cohort, tiny_subject

ROOT = Path(__file__).parents[2]
CORES = len(os.sched_getaffinity(0))
TWO = [Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", "2", "-m", "node.cli"]
TINY = ["--role", "t1", "--role", "low_dose", "-C", "2", "--precision", "fp32", "--set", "crop=16"]


@pytest.fixture
def threads():
    """As many as there were, afterwards again."""
    before = torch.get_num_threads()
    yield before
    use_threads(before)


def test_each_process_takes_its_share_of_the_cores(monkeypatch, threads):
    assert started() == ALONE and torch.get_num_threads() == threads
    for name, value in {"TORCHELASTIC_RUN_ID": "some", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1",
                        "LOCAL_WORLD_SIZE": "4"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    process = started()
    assert (process, process.leads) == (Process(5, 8), False)
    assert torch.get_num_threads() == max(1, CORES // 4)


def test_a_training_is_not_split_between_processes_on_one_gpu(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "some", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="one process for each of this machine's 1"), joined(Process(1, 2)):
        pass


def ablate(cohort, out):
    return ["ablate", cohort, "--out", out, "--folds", "2", "--epochs", "10", "--set", "checkpoint_seconds=0.2", *TINY]


def two_processes(arguments):
    said = subprocess.run([*TWO, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return said.stdout


def one_process(arguments):
    """With as many threads as each of two has: sums depend on that in the last bit."""
    use_threads(max(1, CORES // 2))
    said = CliRunner().invoke(app, [str(one) for one in arguments])
    assert said.exit_code == 0, said.exception


def ranks(torchrun):
    """The processes that torchrun has started, by rank."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    return {
        int(line.removeprefix(b"RANK=")): int(child)
        for child in children
        for line in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if line.startswith(b"RANK=")
    }


def lock_holders():
    """Who holds a lock of flock(2) now (proc_locks(5)); lines of those who wait have an arrow."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {int(words[4]) for words in lines if words[1] == "FLOCK"}


def trained(out):
    """The weights of every run, by its key."""
    return {path.parent.name: read_checkpoint(path)["network"] for path in (out / "runs").glob(f"*/{CHECKPOINT}")}


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


@pytest.mark.timeout(900)
def test_two_processes_one_of_them_killed_make_the_tables_and_weights_of_one(tmp_path, threads):
    tiny_cohort(tmp_path / "cohort", 4)
    two, alone = tmp_path / "two", tmp_path / "alone"
    with subprocess.Popen([*TWO, *ablate(tmp_path / "cohort", two)], cwd=ROOT, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as torchrun:  # fmt: skip
        while True:
            assert torchrun.poll() is None, f"it ended before it could be killed: {torchrun.stderr.read()}"
            started = ranks(torchrun)
            if len(started) == 2 and set(started.values()) <= lock_holders() and trained(two):
                break  # both are at a fold of their own
            time.sleep(0.01)
        os.kill(started[1], signal.SIGKILL)
    assert torchrun.returncode != 0
    assert not (two / "table1.csv").exists()

    said = two_processes(ablate(tmp_path / "cohort", two))
    assert said.count("## Table 1") == 1  # the first process speaks for both
    one_process(ablate(tmp_path / "cohort", alone))
    assert files(two) == files(alone)
    ours, theirs = trained(two), trained(alone)
    assert len(ours) == 3 * 2 and ours.keys() == theirs.keys()
    for key, weights in theirs.items():
        for name, expected in weights.items():
            assert torch.equal(ours[key][name], expected), (key, name)


@pytest.mark.timeout(600)
def test_one_training_is_split_by_its_batch_and_its_gradients_are_those_of_the_whole(tmp_path, threads):
    tiny_cohort(tmp_path / "cohort", 7)

    def command(out):
        return ["train", tmp_path / "cohort", "--out", out, "--epochs", "1", "--set", "batch=2", "--hold-out", "head_3",
                *TINY]  # fmt: skip

    assert two_processes(command(tmp_path / "two")).count("this network") == 2  # judged once, over two domains
    one_process(command(tmp_path / "alone"))
    ours, theirs = (read_checkpoint(tmp_path / name / "run" / CHECKPOINT) for name in ("two", "alone"))
    assert ours["step"] == theirs["step"] == 3
    for place, moments in theirs["optimiser"]["state"].items():  # Adam's first moment: gradients, not yet scaled away
        expected, got = moments["exp_avg"], ours["optimiser"]["state"][place]["exp_avg"]
        assert (got - expected).norm() < 1e-3 * expected.norm(), place


SPLIT = """
import sys
from pathlib import Path
import model.train
from model.cohort import Cohort
from model.processes import joined, started
from model.training_settings import TrainingSettings
from preprocessing.volume import Role

folder, doubting_rank = Path(sys.argv[1]), int(sys.argv[2])
process = started()
if process.rank == doubting_rank:
    model.train.half_precision_holds = lambda *arguments, **named: False
settings = TrainingSettings(roles=(Role.T1, Role.LOW_DOSE), channels=2, batch=2, epochs=2, checkpoint_seconds=0)
with joined(process):
    model.train.train(Cohort.open(folder / "cohort"), settings, folder / f"out_{process.rank}", process=process)
"""


def split_without_a_shared_folder(folder, doubting_rank):
    (folder / "split.py").write_text(SPLIT)
    arguments = [*TWO[:-2], folder / "split.py", folder, str(doubting_rank)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


@pytest.mark.timeout(1100)
def test_all_processes_take_one_precision_and_begin_at_one_step_or_say_why_not(tmp_path):
    for name in ("one", "two"):
        write_subject(tmp_path / "cohort", name, name, ROLES, tiny_subject(1, side=48))
    said = split_without_a_shared_folder(tmp_path, doubting_rank=1)
    assert said.returncode == 0, said.stderr
    assert computed_in(tmp_path / "out_0") == ("float32",)

    said = split_without_a_shared_folder(tmp_path, doubting_rank=1)  # only the first process has a checkpoint
    assert said.returncode != 0
    assert "the processes would begin after 2, 0 steps" in said.stderr


def test_what_cannot_be_split_is_said(tmp_path):
    cohort = tiny_cohort(tmp_path / "cohort", 1)
    settings = TrainingSettings(roles=ROLES, channels=2, batch=3, half_precision=False)
    with pytest.raises(TrainingError, match="a batch of 3 cannot be split over 2 processes"):
        train(cohort, settings, tmp_path / "run", process=Process(1, 2))
    gong = replace(settings, architecture=Architecture.GONG, batch=2)  # it takes statistics over the whole batch
    with pytest.raises(TrainingError, match="gong's batches cannot be split"):
        train(cohort, gong, tmp_path / "run", process=Process(1, 2))
