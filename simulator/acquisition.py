"""From signals at 1 mm to the volumes a scanner reconstructs: motion, partial volume, coil sensitivity, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from simulator.artefacts import (
    BIAS,
    Artefact,
    ArtefactKind,
    Image,
    cropped,
    folded,
    ghosted,
    narrowed,
    noise_factor,
    spiked,
)
from simulator.deformation import rotation
from simulator.grid import Grid, Matrix, affine_transform, resample, to_image
from simulator.kinetics import relaxivity
from simulator.protocol import UNWEIGHTED, Kind, SeriesPlan, Weighting
from simulator.randomness import smooth_field, stream
from simulator.scanner import Scanner
from simulator.sequences import Diffusion, Flair, Mprage, SpinEcho, SpoiledGradientEcho, relaxed
from simulator.subject import ParameterMaps, Subject
from simulator.tissue import Tissue

FloatArray = NDArray[np.float32]
Progress = Callable[[str], None]

POINT_SPREAD_MM = 0.5  # deviation of the blur that a finite k-space and the label map's blocks call for
NOISE_RATIO = {Kind.FLAIR: 1.0, Kind.DWI: 1.2}  # of T1's noise, relative to each sequence's white matter [A]


@dataclass(frozen=True)
class ScanEffects:
    """What separates an acquisition from the truth.

    ``bias`` is the deviation of the coil sensitivity's logarithm (0.1: about ±20 % over the head); ``motion`` in mm and
    degrees between series; ``distortion`` of echo-planar images in mm; of ``artefacts`` that are named twice for a
    series, the last counts.
    """

    bias: float = 0.10
    motion: float = 0.6
    distortion: float = 0.8
    # Not in repr, which the UIDs are made from: studies without artefacts keep the UIDs that they had before them.
    artefacts: tuple[Artefact, ...] = field(default=(), repr=False)

    def severity(self, artefact: ArtefactKind, series: Kind) -> float:
        """How strong an artefact is in a series; 0 if it was not ordered."""
        named = [one.severity for one in self.artefacts if one.kind is artefact and one.series in (None, series)]
        return named[-1] if named else 0.0


@dataclass(frozen=True)
class Acquired:
    """A series as the scanner reconstructs it: one magnitude volume [k, j, i] for each of the plan's weightings.

    ``plan`` is what was acquired; a cropped or wrapped series has another grid than was planned.
    Units are such that white matter without contrast agent is 1; an ADC map is in mm²/s.
    """

    plan: SeriesPlan
    volumes: dict[Weighting, FloatArray]


def acquire(
    subject: Subject,
    scanner: Scanner,
    plans: tuple[SeriesPlan, ...],
    effects: ScanEffects | None = None,
    progress: Progress | None = None,
) -> list[Acquired]:
    """All series of the examination, in order; deterministic from the subject's seed."""
    examiner = _Examiner(subject, scanner, effects or ScanEffects())
    done: list[Acquired] = []
    for plan in plans:
        if progress:
            progress(plan.description)
        if plan.kind is Kind.ADC:
            source = next(one for one in done if one.plan.kind is Kind.DWI)
            done.append(Acquired(replace(plan, grid=source.plan.grid), {UNWEIGHTED: scanner_adc(source.volumes)}))
        else:
            done.append(examiner.scan(plan))
    return done


class _Examiner:
    """One patient on one scanner: what all series of an examination share."""

    def __init__(self, subject: Subject, scanner: Scanner, effects: ScanEffects) -> None:
        self.subject, self.scanner, self.effects = subject, scanner, effects
        self.parameters = subject.parameters(scanner.field_tesla)
        self.coil = self._sensitivity("coil", effects.bias)

    def scan(self, plan: SeriesPlan) -> Acquired:
        """One series, with the artefacts that were ordered for it."""
        severity = {artefact: self.effects.severity(artefact, plan.kind) for artefact in ArtefactKind}
        wide = cropped(plan, self.subject, severity[ArtefactKind.CROPPING])
        plan = narrowed(wide, self.subject, severity[ArtefactKind.WRAP_AROUND])
        rng = stream(self.subject.seed, f"scan {plan.kind}")
        sigma = self.scanner.noise * NOISE_RATIO.get(plan.kind, 1.0) * float(rng.uniform(0.8, 1.25))
        sigma *= noise_factor(severity[ArtefactKind.NOISE])
        spikes = stream(self.subject.seed, f"spikes {plan.kind}")
        volumes = {}
        for b, weightings in groupby(plan.weightings, lambda weighting: weighting.b):
            at = self._images(wide, plan, b, severity[ArtefactKind.BIAS])
            motion = stream(self.subject.seed, f"ghosting {plan.kind}")
            image = ghosted(at, plan, severity[ArtefactKind.GHOSTING], motion)
            for weighting in weightings:
                noiseless = spiked(image, plan, severity[ArtefactKind.SPIKES], spikes)
                volumes[weighting] = rician(noiseless, sigma, rng)
        return Acquired(plan, volumes)

    def _images(self, wide: SeriesPlan, plan: SeriesPlan, b: int, bias: float) -> Callable[[Matrix], FloatArray]:
        """The images without noise, of a head in whatever pose, on the plan's grid; ``wide`` is without wrap-around."""
        subject, effects = self.subject, self.effects
        signal = true_signal(subject, self.parameters, self.scanner, plan, b)
        received = signal / white_signal(subject, self.parameters, self.scanner, plan) * self.coil
        if bias:
            received *= self._sensitivity(f"bias {plan.kind}", BIAS * bias)
        move = head_motion(subject.seed, plan.kind, effects)
        warp = echo_planar_distortion(subject, effects.distortion) if plan.kind is Kind.DWI else None
        return lambda pose: folded(sampled_on(received, subject.grid, wide, move @ pose, warp), wide, plan)

    def _sensitivity(self, name: str, deviation: float) -> FloatArray:
        smooth = smooth_field(stream(self.subject.seed, name), self.subject.grid, 90.0)
        return np.asarray(np.exp(deviation * smooth), dtype=np.float32)


def true_signal(
    subject: Subject, parameters: ParameterMaps, scanner: Scanner, plan: SeriesPlan, b: int = 0
) -> FloatArray:
    """The signal of each 1 mm voxel, signed, in units of fully relaxed water."""
    sequence = plan.sequence
    if isinstance(sequence, Mprage | SpoiledGradientEcho | SpinEcho):
        t1 = parameters.t1
        if plan.injections:
            agent = subject.concentration(plan.minute, plan.injections)
            t1 = relaxed(t1, agent, relaxivity(scanner.agent, scanner.field_tesla))
        return sequence.signal(t1, parameters.t2, parameters.density)
    blood = (subject.tissues == Tissue.VEIN) | (subject.tissues == Tissue.ARTERY)
    fat = (subject.tissues == Tissue.FAT) | (subject.tissues == Tissue.MARROW)
    if isinstance(sequence, Flair):
        signal = sequence.signal(parameters.t1, parameters.t2, parameters.density)
        signal[blood] = 0.0  # it flows out between excitation and echo
        return signal
    signal = sequence.signal(parameters.t1, parameters.t2, parameters.density, parameters.adc, float(b))
    signal[fat] *= 0.06  # echo-planar imaging suppresses fat, or it would lie over the brain
    return signal


def white_signal(subject: Subject, parameters: ParameterMaps, scanner: Scanner, plan: SeriesPlan) -> float:
    """Mean signal of white matter without contrast agent and diffusion weighting: the unit of the acquired volumes."""
    white = np.flatnonzero(subject.tissues == Tissue.WHITE)[::97]
    t1, t2, density, adc = (
        m.ravel()[white] for m in (parameters.t1, parameters.t2, parameters.density, parameters.adc)
    )
    if isinstance(plan.sequence, Diffusion):
        return float(plan.sequence.signal(t1, t2, density, adc, 0.0).mean())
    return float(plan.sequence.signal(t1, t2, density).mean())


def sampled_on(
    signal: FloatArray,
    grid: Grid,
    plan: SeriesPlan,
    move: Matrix,
    warp: sitk.Transform | None = None,
) -> FloatArray:
    """The signed signal averaged over each native voxel (partial volume), [k, j, i] on ``plan.grid``.

    Each voxel is split into cells of about 1 mm; slices with a gap are averaged over their thickness only.
    """
    blurred = ndimage.gaussian_filter(signal, POINT_SPREAD_MM, truncate=3.0)
    excited = plan.grid
    spacing = np.asarray(excited.spacing)
    share = min(plan.thickness / spacing[2], 1.0)
    factors = [max(round(float(s)), 1) for s in (spacing[0], spacing[1], plan.thickness)]
    cells = _cells(excited, (factors[0], factors[1]))
    total = np.zeros(excited.shape, dtype=np.float32)
    normal = excited.directions[:, 2] * spacing[2] * share
    for part in range(factors[2]):
        shift = (part + 0.5) / factors[2] - 0.5
        matrix = cells.matrix
        matrix[:3, 3] += normal * shift
        transform: sitk.Transform = affine_transform(move)
        if warp is not None:
            transform = sitk.CompositeTransform([warp, transform])
        values = resample(blurred, grid, Grid.from_matrix(cells.size, matrix), transform)
        k, j, i = excited.shape
        total += values.reshape(k, j, factors[1], i, factors[0]).mean(axis=(2, 4))
    return np.asarray(total / factors[2], dtype=np.float32)


def _cells(grid: Grid, factors: tuple[int, int]) -> Grid:
    return grid.refined((factors[0], factors[1], 1))


def head_motion(seed: int, kind: Kind, effects: ScanEffects) -> Matrix:
    """The head's small rigid motion between the truth and one series, LPS to LPS; T1, the first series, has none."""
    matrix = np.eye(4)
    if kind is Kind.T1:
        return matrix
    rng = stream(seed, f"motion {kind}")
    matrix[:3, :3] = rotation(rng.normal(0, effects.motion * 0.7, 3))
    matrix[:3, 3] = rng.normal(0, effects.motion, 3)
    return matrix


def rician(signal: Image, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Magnitude of the real or complex signal with independent noise of deviation ``sigma`` in both channels
    (Gudbjartsson 1995)."""
    if sigma == 0:
        return np.abs(signal)
    real = signal.real + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = signal.imag + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def scanner_adc(volumes: dict[Weighting, FloatArray]) -> FloatArray:
    """The scanner's own map in mm²/s: the logarithm of the signal falls in a straight line over all b-values (least
    squares); zero where there is only noise. ``volumes`` begin with b=0."""
    first = next(iter(volumes.values()))
    usable = (first > 0.15) & np.logical_and.reduce([volume > 0 for volume in volumes.values()])
    highest = max(weighting.b for weighting in volumes)
    share = {weighting: weighting.b / highest for weighting in volumes}
    mean = sum(share.values()) / len(share)
    fall = np.zeros_like(first[usable])
    for weighting, volume in volumes.items():
        if weighting.b:
            fall += (share[weighting] - mean) * np.log(first[usable] / volume[usable])
    adc = np.zeros_like(first)
    adc[usable] = fall / sum((one - mean) ** 2 for one in share.values()) / highest
    return np.clip(adc, 0, 4e-3)


def echo_planar_distortion(subject: Subject, strength: float) -> sitk.Transform:
    """Echo-planar images are displaced along the phase direction (anterior-posterior), most near air-filled sinuses."""
    grid = subject.grid
    coarse = Grid.of((grid.size[0] // 6, grid.size[1] // 6, grid.size[2] // 6), np.eye(3), (6.0, 6.0, 6.0), grid.centre)
    shift = strength * 0.5 * smooth_field(stream(subject.seed, "distortion"), coarse, 40.0)
    k, j, _ = np.meshgrid(*[np.arange(n) for n in coarse.shape], indexing="ij")
    height = k * 6.0 + coarse.origin[2]
    forward = -(j * 6.0 + coarse.origin[1])
    # The sphenoid and ethmoid cells lie in front of and below the brain's centre.
    sinus = np.exp(-(((forward - 35) / 28) ** 2 + ((height + 30) / 22) ** 2))
    field = np.zeros((*coarse.shape, 3))
    field[..., 1] = shift + strength * 3.0 * sinus
    image = sitk.GetImageFromArray(field, isVector=True)
    image.CopyInformation(to_image(np.zeros(coarse.shape, dtype=np.uint8), coarse))
    return sitk.DisplacementFieldTransform(image)
