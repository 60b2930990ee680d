"""What decides a training's numbers beside cohort and code: the paper's choices as defaults, and switches for others.

Other losses and heads, a shared intensity scale, the architectures of the paper's rivals: each is one switch, so that
each can be tried alone on the same folds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from model.losses import Loss
from model.network import GRID_MULTIPLE, Head
from preprocessing.volume import Role


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
        for holds, what in self._bounds():
            if not holds:
                raise ValueError(what)
        for needed, why in self._needs():
            if needed not in self.roles:
                raise ValueError(f"{why} needs {needed} among the inputs, which are {', '.join(self.roles)}")

    def _bounds(self) -> list[tuple[bool, str]]:
        """What must hold of each setting by itself, and what to say where it does not."""
        crop, limit = self.crop, self.gradient_limit
        tells_variance = self.architecture is Architecture.KLEESIEK
        return [
            (0 < len(self.roles) == len(set(self.roles)), f"roles must be inputs, each once, not {list(self.roles)}"),
            (min(self.channels, self.epochs, self.batch) >= 1, "channels, epochs and batch must be at least 1, not "
             f"{self.channels}, {self.epochs} and {self.batch}"),
            (crop is None or (crop > 0 and crop % GRID_MULTIPLE == 0),
             f"crop must be a multiple of {GRID_MULTIPLE}, not {crop}"),
            (0 <= self.lesion_share <= 1, f"lesion_share must be between 0 and 1, not {self.lesion_share}"),
            (self.learning_rate > 0, f"learning_rate must be above 0, not {self.learning_rate}"),
            (limit is None or limit > 0, f"gradient_limit must be above 0, not {limit}"),
            ((self.loss is Loss.LIKELIHOOD) == tells_variance, f"loss must be {Loss.LIKELIHOOD} for the network of "
             f"{Architecture.KLEESIEK}, which alone tells a variance, and another for others: not {self.loss} for "
             f"{self.architecture}"),
        ]  # fmt: skip

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
        raise ValueError("; ".join(map(_in_words, error.errors()))) from error


def _in_words(wrong: ErrorDetails) -> str:
    if wrong["type"] == "value_error":  # what ``__post_init__`` says of the settings together
        return str(wrong["ctx"]["error"])
    return f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']} (not {wrong['input']!r})"
