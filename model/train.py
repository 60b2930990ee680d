"""Training, to be read in one sitting: the paper's L2 loss and Adam, flips on the device, half precision.

``TrainingSettings`` also names what the paper does not do: other losses and heads, a shared intensity scale, the
architectures of its rivals. Each is one switch, so that each can be tried alone on the same folds.

A run lives in a folder: ``checkpoint.pt`` is written to a side file, synced and renamed into place, so a run that is
killed goes on from its last checkpoint to the very numbers it would have reached (randomness depends on seed and
step alone).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from model.cohort import Cohort
from model.losses import Loss, loss_of
from model.network import GRID_MULTIPLE, Head, network_for
from model.rival_networks import GongNetwork, KleesiekNetwork
from model.sampling import draw, flip, load
from preprocessing.volume import Role

CHECKPOINT = "checkpoint.pt"
SMALLEST_HALF_PRECISION_SIDE = 3 * GRID_MULTIPLE
"""Below this the deepest feature map is two voxels deep, and there torch 2.13 on a CPU takes bf16 weight gradients from
memory that was never written (measured on convolutions of 128 channels; three voxels and fp32 are right)."""


class Architecture(StrEnum):
    """Whose network is trained."""

    BONE = "bone"
    GONG = "gong"
    KLEESIEK = "kleesiek"


@dataclass(frozen=True)
class TrainingSettings:
    """The defaults are the paper's reference configuration (sections 2 and 3)."""

    roles: tuple[Role, ...] = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)
    channels: int = 16
    architecture: Architecture = Architecture.BONE
    head: Head = Head.PAPER
    loss: Loss = Loss.L2
    shared_scale: bool = False
    """Bring the low dose to T1's intensity scale first (``model.intensity``)."""
    epochs: int = 300
    batch: int = 1
    """The paper states none."""
    learning_rate: float = 1e-3
    """Adam's default, as are its other parameters. 2e-3 diverges."""
    cosine_decay: bool = False
    """Let the learning rate fall to nothing along half a cosine, which helps short runs. The paper keeps
    it constant."""
    crop: int | None = None
    """Side of a random cube in voxels, None for the paper's whole images: crops learn sooner on a CPU."""
    lesion_share: float = 0.0
    """The share of crops that are centred on an enhancing lesion."""
    gradient_limit: float | None = None
    """Gradients whose norm exceeds this are scaled down to it; None for the paper's plain Adam. Without normalisation
    layers single steps bring gradients a hundred times the usual 3e-4, after which Adam throws the weights about."""
    half_precision: bool = True
    """bf16 autocast, or fp16."""
    fp16: bool = False
    """The paper's half precision instead of bf16: small gradients would vanish in it, so the loss is scaled up, by a
    factor that grows until a gradient overflows (Micikevicius et al., ICLR 2018)."""
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop % GRID_MULTIPLE:
            raise ValueError(f"crop must be a multiple of {GRID_MULTIPLE}, not {self.crop}")
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(f"epochs and batch must be at least 1, not {self.epochs} and {self.batch}")
        for needed, why in self._needs():
            if needed not in self.roles:
                raise ValueError(f"{why} needs {needed} among the inputs, which are {', '.join(self.roles)}")

    def _needs(self) -> list[tuple[Role, str]]:
        needs = []
        starts_from_low_dose = self.head is Head.RESIDUAL and Role.T1 not in self.roles
        if starts_from_low_dose or self.head is Head.DIFFERENCE:
            needs.append((Role.LOW_DOSE, "this head"))
        if self.shared_scale or self.architecture is Architecture.GONG:
            needs.append((Role.LOW_DOSE, "this scale or architecture"))
        if self.head is Head.DIFFERENCE or self.shared_scale or self.loss is Loss.ENHANCEMENT:
            needs.append((Role.T1, "this head, scale or loss"))
        return needs

    @property
    def identity(self) -> str:
        """All that decides the numbers, as JSON with sorted keys."""
        content = asdict(self)
        del content["checkpoint_seconds"]
        if not self.fp16:  # runs from before there was a choice stay what they were
            del content["fp16"]
        return json.dumps(content, sort_keys=True)


def settings_from(given: Mapping[str, Any]) -> TrainingSettings:
    """Settings from names and values, which may be texts. Raises ValueError naming what is unknown or does not fit."""
    names = [field.name for field in fields(TrainingSettings)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"there is no setting {', '.join(unknown)}: choose from {', '.join(names)}")
    try:
        return TypeAdapter(TrainingSettings).validate_python(dict(given))
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']} (not {one['input']!r})" for one in error.errors())
        raise ValueError("; ".join(wrong)) from error


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
    def new(cls, settings: TrainingSettings) -> _Learner:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = new_network(settings).to(device)
        if settings.architecture is not Architecture.GONG:
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's types
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        scaler = torch.amp.GradScaler(device.type, enabled=settings.half_precision and settings.fp16)
        return cls(network, optimiser, scaler, device)


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
) -> nn.Module:
    """Train on every subject of ``cohort`` and return the network, on the CPU and in fp32. Goes on from the
    checkpoint in ``out`` if there is one. Raises TrainingError if that belongs to another run, or if the loss is no
    longer a number."""
    if not cohort.subjects:
        raise TrainingError(f"{cohort.folder} has no subject to train on")
    cohort = cohort.with_roles(settings.roles)
    side = settings.crop or min(cohort.read(cohort.subjects[0]).brain.shape)
    if settings.architecture is Architecture.BONE and settings.half_precision and side < SMALLEST_HALF_PRECISION_SIDE:
        raise TrainingError(
            f"half precision needs volumes of {SMALLEST_HALF_PRECISION_SIDE} voxels, these have {side}: turn it off"
        )
    out.mkdir(parents=True, exist_ok=True)
    learner = _Learner.new(settings)
    network = learner.network
    steps = math.ceil(settings.epochs * len(cohort.subjects) / settings.batch)
    run = {"cohort": cohort.digest, "settings": settings.identity}
    begin = _resume(out / CHECKPOINT, run, learner)

    started = saved = time.monotonic()
    for step in range(begin, steps):
        if settings.cosine_decay:
            for group in learner.optimiser.param_groups:
                group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        loss = _step(learner, cohort, settings, step)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} at step {step}: lower learning_rate or use fp32")
        last = step + 1 == steps
        if last or time.monotonic() - saved > settings.checkpoint_seconds:
            _save(out / CHECKPOINT, run, learner, step + 1)
            saved = time.monotonic()
        if progress is not None:
            progress(TrainingProgress(step + 1, steps, loss, time.monotonic() - started, network))
    return network.cpu().eval()


def _step(learner: _Learner, cohort: Cohort, settings: TrainingSettings, step: int) -> float:
    network, optimiser, scaler = learner.network, learner.optimiser, learner.scaler
    examples = draw(cohort, settings.seed, step, settings.batch, settings.crop, settings.lesion_share)
    loaded = load(cohort, examples, settings.crop, shared_scale=settings.shared_scale)
    inputs, targets = (flip(volumes.to(learner.device).float(), examples) for volumes in loaded)
    inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
    optimiser.zero_grad(set_to_none=True)
    half = torch.float16 if settings.fp16 else torch.bfloat16
    with torch.random.fork_rng(), torch.autocast(learner.device.type, half, enabled=settings.half_precision):
        torch.manual_seed(hash((settings.seed, step)) % 2**63)  # dropout, too, depends on seed and step alone
        virtual: Tensor = network(inputs)
    t1 = inputs[:, settings.roles.index(Role.T1), None] if Role.T1 in settings.roles else None
    loss = loss_of(settings.loss, virtual, targets, t1)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    if settings.gradient_limit is not None:
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_limit)
    scaler.step(optimiser)
    scaler.update()
    return loss.item()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint of a run: ``run``, ``step`` and the states ``network``, ``optimiser`` and ``scaler``. Raises
    TrainingError if it is broken."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path} does not exist: train first") from None
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise TrainingError(f"{path} is not a checkpoint ({error}); delete it to train from the start") from error
    return content


def _resume(path: Path, run: dict[str, str], learner: _Learner) -> int:
    if not path.exists():
        return 0
    content = read_checkpoint(path)
    for what, value in run.items():
        if content["run"][what] != value:
            raise TrainingError(f"{path} belongs to a run with another {what}; choose another folder or delete it")
    learner.network.load_state_dict(content["network"])
    learner.optimiser.load_state_dict(content["optimiser"])
    if learner.scaler.is_enabled():
        learner.scaler.load_state_dict(content["scaler"])
    step: int = content["step"]
    return step


def _save(path: Path, run: dict[str, str], learner: _Learner, step: int) -> None:
    draft = path.with_suffix(".part")
    states = {
        "network": learner.network.state_dict(), "optimiser": learner.optimiser.state_dict(),
        "scaler": learner.scaler.state_dict(),
    }  # fmt: skip
    with draft.open("wb") as file:
        torch.save({"run": run, "step": step, **states}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
