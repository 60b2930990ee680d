"""Artefacts on request, so that quality control has something to catch.

Each has a severity from 0 (the identity) to 1 (no radiologist would read the series). What happens to a receiver's
signal happens here to complex images or to the lines of their k-space, before noise and magnitude. How strong severity
1 is, is an assumption everywhere [A].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from simulator.deformation import rotation
from simulator.grid import Grid, Matrix
from simulator.protocol import Kind, SeriesPlan
from simulator.sequences import Diffusion, Flair
from simulator.subject import Subject
from simulator.tissue import Tissue

FloatArray = NDArray[np.float32]
ComplexArray = NDArray[np.complex64]
Image = FloatArray | ComplexArray

TURN_DEGREES, SHIFT_MM = 4.0, 3.0  # deviation of the head's pose during an acquisition, at severity 1
NECK = (0.0, 10.0, -70.0)  # LPS mm: what a head lying in a coil turns about
POSES = 8  # so many different poses stand for the continuous motion of one acquisition
NYQUIST_RADIANS = 0.6  # phase between odd and even echoes of an echo-planar train
FOLD = 0.4  # share of the head that lies outside the field of view
SPIKE = 0.5  # of white matter's signal
NOISE_FACTOR = 9.0
BIAS = 0.5  # deviation of the coil sensitivity's logarithm
CROP_MM = 60.0  # of head above the field of view


class ArtefactKind(StrEnum):
    """What can go wrong with a series."""

    GHOSTING = "ghosting"  # the head moves between lines of k-space; for DWI the N/2 ghost of echo-planar imaging
    WRAP_AROUND = "wrap-around"  # the field of view along the phase direction is smaller than the head
    SPIKES = "spikes"  # single samples of k-space are far too large (herringbone)
    NOISE = "noise"
    BIAS = "bias"  # a coil sensitivity that varies severalfold over the head
    CROPPING = "cropping"  # the field of view ends below the vertex


@dataclass(frozen=True)
class Artefact:
    """``severity`` from 0 to 1, in one ``series`` or in all that are acquired."""

    kind: ArtefactKind
    severity: float
    series: Kind | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.severity <= 1:
            raise ValueError(f"severity {self.severity:g} of {self.kind} is out of range; choose 0 (none) to 1")
        if self.series is Kind.ADC:
            raise ValueError("the ADC map is computed from the diffusion series: order the artefact for dwi")


def parse_artefacts(texts: Iterable[str]) -> tuple[Artefact, ...]:
    """Artefacts from ``KIND=SEVERITY`` or ``SERIES:KIND=SEVERITY``, as in ``t1:ghosting=0.5``.

    Raises ``ValueError`` that says what is known when a text is none of these.
    """
    return tuple(_parsed(text) for text in texts)


def _parsed(text: str) -> Artefact:
    where, _, what = text.rpartition(":")
    name, _, written = what.partition("=")
    if name not in list(ArtefactKind):
        raise ValueError(f"artefact {name!r} is not known; choose from {', '.join(ArtefactKind)}")
    if where and where not in list(Kind):
        raise ValueError(f"series {where!r} is not known; choose from {', '.join(Kind)}, or leave it out for all")
    try:
        severity = float(written)
    except ValueError:
        raise ValueError(f"an artefact is written ghosting=0.5 or t1:ghosting=0.5; got {text!r}") from None
    return Artefact(ArtefactKind(name), severity, Kind(where) if where else None)


def cropped(plan: SeriesPlan, subject: Subject, severity: float) -> SeriesPlan:
    """The plan with its field of view moved down until it ends below the vertex."""
    if severity == 0:
        return plan
    upward = int(np.argmax(np.abs(plan.grid.directions[2])))
    direction = plan.grid.directions[:, upward] * np.sign(plan.grid.directions[2, upward])
    edge = float(plan.grid.centre @ direction) + plan.grid.spacing[upward] * plan.grid.size[upward] / 2
    _, vertex = _extent(subject, direction)
    matrix = plan.grid.matrix
    matrix[:3, 3] += direction * min(vertex - CROP_MM * severity - edge, 0.0)
    return replace(plan, grid=Grid.from_matrix(plan.grid.size, matrix))


def narrowed(plan: SeriesPlan, subject: Subject, severity: float) -> SeriesPlan:
    """The plan with fewer lines along the phase direction than the head needs: a rectangular field of view around the
    same centre, with voxels of the same size."""
    if severity == 0:
        return plan
    phase = _phase_axis(plan)
    low, high = _extent(subject, plan.grid.directions[:, phase])
    lines = round((high - low) / plan.grid.spacing[phase] * (1 - FOLD * severity) / 2) * 2
    size, first = list(plan.grid.size), [0, 0, 0]
    first[phase] = max((size[phase] - lines) // 2, 0)
    size[phase] = min(lines, size[phase])
    matrix = plan.grid.matrix
    matrix[:3, 3] = plan.grid.point(first)
    return replace(plan, grid=Grid.from_matrix((size[0], size[1], size[2]), matrix))


def folded(image: FloatArray, wide: SeriesPlan, narrow: SeriesPlan) -> FloatArray:
    """``image`` of the ``wide`` plan as the ``narrow`` one encodes it: fewer lines of k-space as far apart as its field
    of view asks for, so that everything outside is added from the other side."""
    axis, lines = 2 - _phase_axis(narrow), narrow.grid.size[_phase_axis(narrow)]
    whole = image.shape[axis]
    if lines == whole:
        return image
    before = -((whole - lines) // 2) % lines
    widths = [(0, 0)] * 3
    widths[axis] = (before, -(before + whole) % lines)
    padded = np.moveaxis(np.pad(image, widths), axis, 0)
    return np.moveaxis(padded.reshape(-1, lines, *padded.shape[1:]).sum(axis=0), 0, axis)


def ghosted(at: Callable[[Matrix], FloatArray], plan: SeriesPlan, severity: float, rng: np.random.Generator) -> Image:
    """The image that is reconstructed when the head moves between lines of k-space; ``at`` gives the image [k, j, i] of
    a head moved by a 4 × 4 LPS matrix. What was excited before the motion is not followed (no spin history).

    Single-shot echo-planar imaging is too fast for motion; it has the ghost of its alternating echoes.
    """
    if severity == 0:
        return at(np.eye(4))
    if isinstance(plan.sequence, Diffusion):
        return _nyquist_ghost(at(np.eye(4)), plan, severity)
    axis = 2 - _phase_axis(plan)
    shots = _shots(plan, plan.grid.shape[axis])
    path = _path(plan, int(shots.max()) + 1, rng)
    path -= path[shots[0]]  # the head lies still where the centre of k-space, and so the image, is acquired
    axes = [vector / np.linalg.norm(vector) for vector in rng.standard_normal((2, 3)) * ((1.0, 0.4, 0.4), (0.3, 1, 1))]
    step = float(np.ptp(path)) / (POSES - 1) or 1.0
    nearest = np.rint(path / step).astype(np.int64)
    lines = np.zeros(plan.grid.shape, dtype=np.complex64)
    for number in np.unique(nearest):
        amount = number * step * severity
        pose = _turned(axes[0] * amount * TURN_DEGREES, axes[1] * amount * SHIFT_MM)
        acquired = np.expand_dims(nearest[shots] == number, [a for a in range(3) if a != axis])
        np.copyto(lines, fft.fft(at(pose), axis=axis), where=acquired)
    return np.asarray(fft.ifft(lines, axis=axis), dtype=np.complex64)


def spiked(image: Image, plan: SeriesPlan, severity: float, rng: np.random.Generator) -> Image:
    """The image with one to three spikes in the k-space of the volume or, for two-dimensional sequences, in that of a
    third of its slices: a sample that is too large at (kz, ky, kx) is a wave over the image."""
    if severity == 0:
        return image
    out = image.astype(np.complex64)
    for part in [out] if plan.is_t1 else [out[k : k + 1] for k in range(len(out)) if rng.random() < 1 / 3]:
        for _ in range(int(rng.integers(1, 4))):
            k, j, i = (np.exp(2j * np.pi * rng.integers(n) / n * np.arange(n)).astype(np.complex64) for n in part.shape)
            strength = SPIKE * severity * rng.uniform(0.5, 1) * np.exp(2j * np.pi * rng.random())
            part += np.complex64(strength) * k[:, None, None] * j[:, None] * i
    return out


def noise_factor(severity: float) -> float:
    """By how much the noise is more than the scanner's usual."""
    return 1 + NOISE_FACTOR * severity


def _phase_axis(plan: SeriesPlan) -> int:
    """The grid's axis (i, j, k) along which lines of k-space are encoded one after another."""
    return 0 if plan.phase_along_rows else 1


def _extent(subject: Subject, direction: NDArray[np.float64]) -> tuple[float, float]:
    """From where to where the head reaches along a unit vector, LPS mm."""
    index = np.argwhere(subject.tissues[::2, ::2, ::2] != Tissue.AIR)[:, ::-1] * 2
    along = np.rint(index @ (subject.grid.matrix[:3, :3].T @ direction)).astype(np.int64)
    # Label maps have stray voxels around the head: where it begins, its section is more than that.
    section = np.bincount(along - along.min())
    inside = np.flatnonzero(section > 0.01 * section.max()) + along.min() + subject.grid.origin @ direction
    return float(inside[0]), float(inside[-1])


def _shots(plan: SeriesPlan, lines: int) -> NDArray[np.int64]:
    """In which excitation each line of k-space is acquired, in the order of a discrete Fourier transform.

    A 3D gradient echo acquires all partitions of a line, then goes to the next. Each echo of a turbo spin echo fills
    its own segment of k-space, so that neighbouring lines come from neighbouring excitations.
    """
    order = np.fft.ifftshift(np.arange(lines))
    if isinstance(plan.sequence, Flair):
        return np.asarray(order % -(-lines // plan.sequence.echoes))
    return order


def _path(plan: SeriesPlan, shots: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How far the head is from its mean pose at each excitation: it settles three times, and moves with each breath."""
    time = np.linspace(0, 1, shots)
    settled = rng.standard_normal(4)[np.searchsorted(np.sort(rng.uniform(0.1, 0.9, 3)), time)]
    breaths = plan.duration * 15
    return np.asarray(0.7 * settled + 0.3 * np.sin(2 * np.pi * (breaths * time + rng.random())))


def _turned(degrees: NDArray[np.float64], shift: NDArray[np.float64]) -> Matrix:
    """A rigid motion about the neck, LPS to LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees)
    matrix[:3, 3] = shift + np.array(NECK) - matrix[:3, :3] @ np.array(NECK)
    return matrix


def _nyquist_ghost(image: FloatArray, plan: SeriesPlan, severity: float) -> ComplexArray:
    """Odd and even lines of k-space differ in phase, the more so to one side of the readout: what is lost to the image
    appears half a field of view away."""
    axis = 2 - _phase_axis(plan)
    samples = image.shape[3 - axis]
    phase = NYQUIST_RADIANS * severity * np.linspace(0.7, 1.3, samples)
    phase = np.expand_dims(phase, [a for a in range(3) if a != 3 - axis])
    ghost = np.roll(image, image.shape[axis] // 2, axis)
    return np.asarray(np.cos(phase) * image + 1j * np.sin(phase) * ghost, dtype=np.complex64)
