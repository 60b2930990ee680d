"""A model folder: ``weights.safetensors``, ``card.json`` and ``README.md``; and the models that ship in this package.

What decides the numbers, that is the weights, the roles of the input channels, C, the head and the intensity scale, is
all in ``weights.safetensors`` (all but the weights in its metadata), so the SHA-256 of that one file is the model's
digest. The card speaks about the weights, names them by that digest, and may be corrected without changing it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.card import ModelCard
from model.network import Head, SynthesisNetwork, network_for
from preprocessing.volume import Role

WEIGHTS = "weights.safetensors"
METADATA = "quarterdose"
SHIPPED = Path(__file__).parent / "weights"


class WeightsError(Exception):
    """A model folder that cannot be used, or none that fits; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Model:
    """A network ready to run on ``device``, what its input channels are, in order, and who it is."""

    network: SynthesisNetwork
    roles: tuple[Role, ...]
    digest: str
    card: ModelCard
    device: torch.device
    shared_scale: bool = False
    """Whether the low dose is brought to T1's scale first (``model.intensity``)."""

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Model:
        """Read a model folder; ``device`` None takes CUDA if there is one, else the CPU. Raises WeightsError."""
        path = folder / WEIGHTS
        if not path.is_file():
            raise WeightsError(f"{path} does not exist: give a folder that holds {WEIGHTS} and its card")
        card = ModelCard.read(folder)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != card.weights_sha256:
            raise WeightsError(
                f"{path} is not the file that its card describes (SHA-256 {digest[:12]}…, card says "
                f"{card.weights_sha256[:12]}…): copy the whole model folder again"
            )
        network, roles, shared_scale = _read(path)
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network.to(where).eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's own types
        return cls(network, roles, digest, card, where, shared_scale)


def write_weights(
    folder: Path, network: SynthesisNetwork, roles: tuple[Role, ...], *, shared_scale: bool = False
) -> str:
    """Write ``weights.safetensors`` and return its digest. Weights are stored as float16, half the size: half a unit in
    the eleventh bit is far below bf16's rounding at run time. Raises ValueError for a network of other inputs, or whose
    weights are not numbers that float16 holds."""
    if len(roles) != network.inputs:
        raise ValueError(f"the network has {network.inputs} inputs, {len(roles)} roles were given: {', '.join(roles)}")
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in network.state_dict().items()}
    wrong = _not_finite(tensors)
    if wrong:
        raise ValueError(f"{wrong} holds what is no number, or none that float16 holds: the training has diverged")
    described = {"roles": list(roles), "channels": network.channels, "head": network.head}
    if shared_scale:
        described["shared_scale"] = True
    content = save(tensors, {METADATA: json.dumps(described)})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> tuple[SynthesisNetwork, tuple[Role, ...], bool]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            described = json.loads(file.metadata()[METADATA])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # not a dict
        roles = tuple(Role(role) for role in described["roles"])
        network = network_for(roles, described["channels"], Head(described["head"]))
        network.load_state_dict(tensors)
        if wrong := _not_finite(tensors):
            raise ValueError(f"{wrong} is not finite")
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} holds no weights of this network ({error}); copy the model folder again") from error
    return network, roles, bool(described.get("shared_scale", False))


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds infinity or what is no number; empty without one."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "")


def model_folders(where: Path = SHIPPED) -> tuple[Path, ...]:
    """The model folders in ``where``, by name: by default those that ship in this package."""
    return tuple(sorted(path.parent for path in where.glob(f"*/{WEIGHTS}")))


def roles_of(folder: Path) -> tuple[Role, ...]:
    """What a model folder's network takes, without reading the network. Raises WeightsError."""
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return tuple(Role(role) for role in json.loads(file.metadata()[METADATA])["roles"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} holds no weights of this network ({error}); copy the model folder again") from error
