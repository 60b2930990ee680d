"""A study ready for the network, with everything needed to go back to the scanner's space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from preprocessing.grid import NETWORK_SHAPE
from preprocessing.normalise import IntensityScale
from preprocessing.resample import Matrix
from preprocessing.volume import FloatArray, Role
from preprocessing.volume_file import read_npz, write_npz

FORMAT = 1


@dataclass(frozen=True)
class PreparedStudy:
    """The network's input and the way back.

    ``input`` is float32 (M, 160, 192, 160) in [0, 1], zero outside the brain, channel m showing ``channels[m]``; space
    is [k, j, i] on ``NETWORK_GRID``. ``brain`` is bool (160, 192, 160). ``transforms`` takes an LPS point of the
    network grid to the point of that role's own series (4 × 4, mm). ``scales`` undoes each role's intensities.
    ``target`` is the full-dose series, when the study has one (training), float32 (160, 192, 160) and normalised by
    the statistics of its own brain as the paper says; the low-dose scale stands for it where there is none.
    """

    channels: tuple[Role, ...]
    input: FloatArray
    brain: NDArray[np.bool_]
    transforms: Mapping[Role, Matrix]
    scales: Mapping[Role, IntensityScale]
    target: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.input.shape != (len(self.channels), *NETWORK_SHAPE):
            raise ValueError(f"input {self.input.shape} should be {(len(self.channels), *NETWORK_SHAPE)}")
        if self.brain.shape != NETWORK_SHAPE:
            raise ValueError(f"brain {self.brain.shape} should be {NETWORK_SHAPE}")
        object.__setattr__(self, "transforms", MappingProxyType(dict(self.transforms)))
        object.__setattr__(self, "scales", MappingProxyType(dict(self.scales)))

    def save(self, path: Path) -> None:
        """Write everything to one .npz at ``path``; whoever looks there sees the old file or the whole new one."""
        header = {
            "format": FORMAT,
            "channels": list(self.channels),
            "transforms": {role: matrix.tolist() for role, matrix in self.transforms.items()},
            "scales": {role: asdict(scale) for role, scale in self.scales.items()},
        }
        target = {} if self.target is None else {"target": self.target}
        write_npz(path, {"input": self.input, "brain": self.brain, **target}, header)

    @classmethod
    def load(cls, path: Path) -> PreparedStudy:
        """Read what ``save`` wrote. Raises ``ValueError`` naming the file when it is something else or cut short."""
        arrays, header = read_npz(path)
        if header.get("format") != FORMAT:
            raise ValueError(f"{path} is no prepared study of format {FORMAT}: prepare the study again")
        return cls(
            tuple(Role(name) for name in header["channels"]),
            arrays["input"],
            arrays["brain"],
            {Role(name): np.asarray(matrix) for name, matrix in header["transforms"].items()},
            {Role(name): IntensityScale(**scale) for name, scale in header["scales"].items()},
            arrays.get("target"),
        )
