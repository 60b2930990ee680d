"""Training, to be read in one sitting: the paper's L2 loss and Adam, flips on the device, half precision.

``model.training_settings`` has the hyperparameters.

A run lives in a folder: ``checkpoint.pt`` is written to a side file, synced and renamed into place, so a run that is
killed goes on from its last checkpoint to the very numbers it would have reached (randomness depends on seed and
step alone, and a run stays in the precision that it began in).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.cohort import Cohort
from model.losses import loss_of
from model.network import GRID_MULTIPLE, network_for
from model.precision import half_precision_holds
from model.processes import ALONE, Process, add_up, said_by_all
from model.resident import ResidentCohort, fits
from model.rival_networks import GongNetwork, KleesiekNetwork
from model.sampling import Example, deterministic, draw, flip, load, seeded
from model.training_settings import Architecture, TrainingSettings
from preprocessing.volume import Role

CHECKPOINT = "checkpoint.pt"
FULL_PRECISION = "float32"
SMALLEST_HALF_PRECISION_SIDE = 3 * GRID_MULTIPLE
"""Below this the deepest feature map is two voxels deep, and there torch 2.13 on a CPU takes bf16 weight gradients from
memory that was never written (measured on convolutions of 128 channels; three voxels and fp32 are right)."""


@dataclass(frozen=True)
class TrainingProgress:
    """Told after each step: ``step`` of ``steps`` are done, ``loss`` was this one's, ``seconds`` the time since the
    start; ``network`` is the one in training, to be looked at and not changed."""

    step: int
    steps: int
    loss: float
    seconds: float
    network: nn.Module


class TrainingError(Exception):
    """A run that cannot start, go on, or that diverged; the message says what to do."""


@dataclass(frozen=True)
class _Learner:
    """All that a step changes and a checkpoint keeps."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Does nothing unless the settings ask for fp16."""
    device: torch.device

    @classmethod
    def of(cls, settings: TrainingSettings) -> _Learner:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = new_network(settings).to(device)
        if settings.architecture is not Architecture.GONG:
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's types
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=_fused(device))
        scaler = torch.amp.GradScaler(device.type, enabled=settings.half_precision and settings.fp16)
        return cls(network, optimiser, scaler, device)

    def go_on_from(self, checkpoint: dict[str, Any]) -> None:
        self.network.load_state_dict(checkpoint["network"])
        groups = [{**group, "fused": _fused(self.device)} for group in checkpoint["optimiser"]["param_groups"]]
        self.optimiser.load_state_dict({**checkpoint["optimiser"], "param_groups": groups})
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(checkpoint["scaler"])


def _fused(device: torch.device) -> bool | None:
    """Whether Adam does all weights in one kernel on ``device``. That is the device's and not the run's; None, torch's
    own choice, on a processor, where it takes 2 % of a step either way and would change the last bit of runs there."""
    return True if device.type == "cuda" else None


def new_network(settings: TrainingSettings) -> nn.Module:
    """The network that ``settings`` describe, its first weights decided by the seed."""
    roles = settings.roles
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        match settings.architecture:
            case Architecture.BONE:
                return network_for(roles, settings.channels, settings.head)
            case Architecture.GONG:
                return GongNetwork(len(roles), settings.channels, roles.index(Role.LOW_DOSE))
            case Architecture.KLEESIEK:
                return KleesiekNetwork(len(roles), settings.channels)


def train(
    cohort: Cohort,
    settings: TrainingSettings,
    out: Path,
    progress: Callable[[TrainingProgress], None] | None = None,
    process: Process = ALONE,
) -> nn.Module:
    """Train on every subject of ``cohort`` and return the network, on the CPU and in fp32. Goes on from the
    checkpoint in ``out`` if there is one. Several processes that are ``joined`` each take a part of every batch and
    come to the same network. Raises TrainingError for what cannot be trained, if the checkpoint belongs to another run
    or is not seen by every process, or if the loss is no longer a number."""
    _check(cohort, settings, process)
    cohort = cohort.with_roles(settings.roles)
    out.mkdir(parents=True, exist_ok=True)
    learner = _Learner.of(settings)
    steps = math.ceil(settings.epochs * len(cohort.subjects) / settings.batch)
    run = {"cohort": cohort.digest, "settings": settings.identity}
    kept = _kept(out / CHECKPOINT, run)
    begin: int = kept["step"] if kept else 0
    _check_together(begin, process, out)
    if kept and begin == steps:
        learner.go_on_from(kept)
        return learner.network.cpu().eval()

    batch_of = _batches(cohort, settings, learner.device, process)
    with deterministic(learner.device):
        # asked of the first weights, before those of the checkpoint: the same answer at every start
        half = _half_precision(learner.network, settings, batch_of(begin)[0], process, _precision_of(kept))
        if kept:
            learner.go_on_from(kept)
        started = saved = time.monotonic()
        for step in range(begin, steps):
            if settings.cosine_decay:
                for group in learner.optimiser.param_groups:
                    group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            loss = _step(learner, settings, half, step, batch_of(step))
            if not math.isfinite(loss):
                raise TrainingError(f"the loss became {loss} at step {step}: lower learning_rate or use fp32")
            last = step + 1 == steps
            if process.leads and (last or time.monotonic() - saved > settings.checkpoint_seconds):
                _save(out / CHECKPOINT, run, learner, half, step + 1)
                saved = time.monotonic()
            if progress is not None:
                progress(TrainingProgress(step + 1, steps, loss, time.monotonic() - started, learner.network))
    return learner.network.cpu().eval()


def _check(cohort: Cohort, settings: TrainingSettings, process: Process) -> None:
    if not cohort.subjects:
        raise TrainingError(f"{cohort.folder} has no subject to train on")
    grid = cohort.read(cohort.subjects[0]).brain.shape
    if settings.crop is not None and settings.crop > min(grid):
        raise TrainingError(
            f"a crop of {settings.crop} voxels is larger than these volumes, {' × '.join(map(str, grid))}"
        )
    side = settings.crop or min(grid)
    if settings.architecture is Architecture.BONE and settings.half_precision and side < SMALLEST_HALF_PRECISION_SIDE:
        raise TrainingError(
            f"half precision needs volumes of {SMALLEST_HALF_PRECISION_SIDE} voxels, these have {side}: train in fp32 "
            "(`--precision fp32`)"
        )
    if settings.batch % process.count:
        raise TrainingError(
            f"a batch of {settings.batch} cannot be split over {process.count} processes: choose a multiple, or one "
            "process (folds and ablations are spread over processes whatever the batch)"
        )
    if process.count > 1 and settings.architecture is not Architecture.BONE:
        raise TrainingError(f"{settings.architecture}'s batches cannot be split: train it with one process")


def _check_together(begin: int, process: Process, out: Path) -> None:
    begins = said_by_all(begin, process)
    if len(set(begins)) > 1:
        raise TrainingError(
            f"the processes would begin after {', '.join(map(str, begins))} steps: they do not see the same "
            f"{out / CHECKPOINT}; put it where all machines see it, or copy the first process's to each"
        )


def _batches(
    cohort: Cohort, settings: TrainingSettings, device: torch.device, process: Process
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """From a step to what this process sees in it, flipped and on the device: inputs (examples, M, z, y, x) and targets
    (examples, 1, z, y, x), fp32."""
    load_examples: Callable[[tuple[Example, ...], int | None], tuple[Tensor, Tensor]]
    if fits(cohort, device, shared_scale=settings.shared_scale):
        load_examples = ResidentCohort(cohort, device, shared_scale=settings.shared_scale).load
    else:
        load_examples = partial(load, cohort, shared_scale=settings.shared_scale)

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        drawn = draw(cohort, settings.seed, step, settings.batch, settings.crop, settings.lesion_share)
        ours = drawn[process.rank :: process.count]
        loaded = load_examples(ours, settings.crop)
        inputs, targets = (flip(volumes.to(device).float(), ours) for volumes in loaded)
        return inputs.contiguous(memory_format=torch.channels_last_3d), targets

    return batch_of


def _half_precision(
    network: nn.Module, settings: TrainingSettings, inputs: Tensor, process: Process, began_in: str | None
) -> torch.dtype | None:
    """What ``inputs`` are computed in, the same in all processes: None for fp32, also where the device of one gets the
    asked one wrong. ``began_in``: what a checkpoint was computed in, which is not changed any more."""
    if not settings.half_precision or began_in == FULL_PRECISION:
        return None
    half = torch.float16 if settings.fp16 else torch.bfloat16
    holds = half_precision_holds(network, tuple(inputs.shape), half, learning=True)
    if all(said_by_all(int(holds), process)):
        return half
    if began_in is not None:
        raise TrainingError(
            f"the run began in {began_in}, which this {inputs.device.type} gets wrong: go on with it where it began, "
            f"or delete its {CHECKPOINT} to train from the start"
        )
    return None


def _step(
    learner: _Learner, settings: TrainingSettings, half: torch.dtype | None, step: int, batch: tuple[Tensor, Tensor]
) -> float:
    network, optimiser, scaler = learner.network, learner.optimiser, learner.scaler
    inputs, targets = batch
    optimiser.zero_grad(set_to_none=True)
    same_dropout = seeded(learner.device, hash((settings.seed, step)) % 2**63)
    with same_dropout, torch.autocast(learner.device.type, half, enabled=half is not None):
        virtual: Tensor = network(inputs)
    t1 = inputs[:, settings.roles.index(Role.T1), None] if Role.T1 in settings.roles else None
    share = len(inputs) / settings.batch
    loss = share * loss_of(settings.loss, virtual, targets, t1)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    if share < 1:
        add_up([loss.detach(), *(parameter.grad for parameter in network.parameters() if parameter.grad is not None)])
    if settings.gradient_limit is not None:
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_limit)
    scaler.step(optimiser)
    scaler.update()
    return loss.item()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint of a run: ``run``, ``step``, ``computed_in`` (the precision's name in torch) and the states
    ``network``, ``optimiser`` and ``scaler``. Raises TrainingError if it cannot be read or is broken."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if lacking := {"run", "step", "network", "optimiser"} - content.keys():
            raise KeyError(*sorted(lacking))
    except FileNotFoundError:
        raise TrainingError(f"{path} does not exist: train first") from None
    except OSError as error:  # the file may be whole
        raise TrainingError(f"{path} cannot be read ({error})") from error
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise TrainingError(f"{path} is not a checkpoint ({error}); delete it to train from the start") from error
    return content


def computed_in(run: Path) -> tuple[str, ...]:
    """The precisions, by torch's names, that the trainings in ``run`` and its folders were really computed in."""
    kept = (read_checkpoint(path) for path in run.rglob(CHECKPOINT))
    return tuple(sorted({_precision_of(one) or "not recorded" for one in kept}))


def _precision_of(checkpoint: dict[str, Any] | None) -> str | None:
    """None also for a checkpoint from before it was kept."""
    return checkpoint.get("computed_in") if checkpoint else None


def _kept(path: Path, run: dict[str, str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content = read_checkpoint(path)
    for what, value in run.items():
        if content["run"][what] != value:
            raise TrainingError(f"{path} belongs to a run with another {what}; choose another folder or delete it")
    return content


def _save(path: Path, run: dict[str, str], learner: _Learner, half: torch.dtype | None, step: int) -> None:
    draft = path.with_suffix(".part")
    content = {
        "run": run, "step": step, "computed_in": str(half or torch.float32).removeprefix("torch."),
        "network": learner.network.state_dict(), "optimiser": learner.optimiser.state_dict(),
        "scaler": learner.scaler.state_dict(),
    }  # fmt: skip
    with draft.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
