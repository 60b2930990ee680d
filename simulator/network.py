"""The fast path for training: a subject on the network's grid, acquired and aligned, without going through files.

The series are acquired as for DICOM, with the same partial volume, motion and noise, but only around the brain; then
they are put on the grid with the errors that a good preprocessing leaves: a little bias, a little misalignment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.acquisition import Acquired, ScanEffects, acquire, head_motion, true_signal
from simulator.deformation import rotation
from simulator.grid import Grid, Matrix, affine_transform, axis_aligned, resample
from simulator.lesions import Lesion
from simulator.meninges import bounding_box
from simulator.protocol import UNWEIGHTED, Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.registration import mni_to_head
from simulator.scanner import Scanner, Vendor
from simulator.subject import Subject

FloatArray = NDArray[np.float32]

# 160 × 192 × 160 at 1 mm (paper, section 2) around the centre of the ICBM 152 2009a brain, LPS (0, 17, 5): the grid
# that the preprocessing writes.
NETWORK_SIZE = (160, 192, 160)
NETWORK_ORIGIN = (-79.5, -78.5, -74.5)
NETWORK_GRID = axis_aligned(NETWORK_SIZE, NETWORK_ORIGIN)

MARGIN_MM = 12
AFTER_CORRECTION = ScanEffects(bias=0.015, motion=0.6, distortion=0.8)
ALIGNMENT_MM = 0.25  # deviation of what co-registration leaves, mm and (at half) degrees [A]


@dataclass(frozen=True)
class NetworkGridSubject:
    """Five series as float32 [k, j, i] of shape (160, 192, 160) on ``NETWORK_GRID`` (MNI, LPS), whole field of view.

    The T1 series and FLAIR are in units of their white matter, ADC in mm²/s; ``brain`` and ``lesion`` (enhancing) are
    masks. Nothing is masked or normalised: that is the preprocessing's part. ``head`` names the anatomy.
    """

    seed: int
    head: str
    condition: str
    field_tesla: float
    t1: FloatArray
    flair: FloatArray
    adc: FloatArray
    low_dose: FloatArray
    full_dose: FloatArray
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def network_grid(
    subject: Subject,
    scanner: Scanner | None = None,
    effects: ScanEffects = AFTER_CORRECTION,
) -> NetworkGridSubject:
    """Acquire a subject and lay it on the network's grid; without a scanner, one is drawn from the subject's seed."""
    near = around_brain(subject)
    scanner = replace(scanner or draw_scanner(subject.seed), scanner_adc=True)
    plans = tuple(_narrowed(plan, near) for plan in examination(scanner, stream(subject.seed, "examination")))
    # The map from MNI is found on the noise-free T1: noise would not change an affine fit.
    clean = np.abs(true_signal(near, near.parameters(scanner.field_tesla), scanner, plans[0]))
    to_head = mni_to_head(np.where(near.brain, np.minimum(clean, np.percentile(clean[near.brain], 99.5)), 0), near.grid)
    rng = stream(subject.seed, "alignment")
    images = {
        one.plan.kind: _aligned(one, subject.seed, to_head, effects, rng)
        for one in acquire(near, scanner, plans, effects)
    }
    transform = affine_transform(to_head)
    return NetworkGridSubject(
        subject.seed,
        subject.head,
        str(subject.condition),
        scanner.field_tesla,
        images[Kind.T1],
        images[Kind.FLAIR],
        images[Kind.ADC],
        images[Kind.LOW_DOSE],
        images[Kind.FULL_DOSE],
        resample(near.brain.astype(np.float32), near.grid, NETWORK_GRID, transform) >= 0.5,
        resample(near.lesion.astype(np.float32), near.grid, NETWORK_GRID, transform) >= 0.5,
    )


def draw_scanner(seed: int) -> Scanner:
    """A scanner at random: both fields, mostly MPRAGE, noise of 1 to 5 % of white matter."""
    rng = stream(seed, "scanner")
    return Scanner(
        vendor=Vendor(str(rng.choice([str(v) for v in Vendor]))),
        field_tesla=float(rng.choice([1.5, 3.0])),
        t1_sequence=str(rng.choice(["mprage", "spgr"], p=[0.7, 0.3])),
        agent=str(rng.choice(["gadoterate", "gadobutrol"])),
        noise=float(rng.uniform(0.01, 0.05)),
        t1_slice_mm=float(rng.choice([1.0, 1.2])),
        scanner_adc=True,
    )


def around_brain(subject: Subject) -> Subject:
    """The subject cut to the brain and a margin."""
    box = bounding_box(subject.brain, MARGIN_MM)
    k, j, i = (s.stop - s.start for s in box)
    matrix = subject.grid.matrix
    matrix[:3, 3] = subject.grid.point([box[2].start, box[1].start, box[0].start])
    starts = np.array([s.start for s in box])
    lesions = []
    for lesion in subject.lesions:
        index = np.array(np.unravel_index(lesion.voxels, subject.tissues.shape)) - starts[:, None]
        inside = ((index >= 0) & (index < np.array([[k], [j], [i]]))).all(axis=0)
        lesions.append(
            Lesion(np.ravel_multi_index(tuple(index[:, inside]), (k, j, i)).astype(np.int64), lesion.exchange)
        )
    return replace(
        subject,
        grid=Grid.from_matrix((i, j, k), matrix),
        tissues=subject.tissues[box].copy(),
        brain=subject.brain[box].copy(),
        lesions=tuple(lesions),
    )


def _narrowed(plan: SeriesPlan, subject: Subject) -> SeriesPlan:
    """The plan with a field of view no larger than the subject, on the same lattice of voxels."""
    inverse = np.linalg.inv(plan.grid.matrix)
    corners = np.array(
        [subject.grid.point(np.array(c) * (np.array(subject.grid.size) - 1)) for c in np.ndindex(2, 2, 2)]
    )
    index = corners @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.clip(np.floor(index.min(axis=0)), 0, None).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, None, plan.grid.size).astype(int)
    matrix = plan.grid.matrix
    matrix[:3, 3] = plan.grid.point(low)
    size = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    return replace(plan, grid=Grid.from_matrix(size, matrix))


def _aligned(
    acquired: Acquired,
    seed: int,
    to_head: Matrix,
    effects: ScanEffects,
    rng: np.random.Generator,
) -> FloatArray:
    """A native series on the network's grid, its motion undone but for a small error."""
    kind = Kind.DWI if acquired.plan.kind is Kind.ADC else acquired.plan.kind
    error = np.eye(4)
    if kind is not Kind.T1:
        error[:3, :3] = rotation(rng.normal(0, ALIGNMENT_MM / 2, 3))
        error[:3, 3] = rng.normal(0, ALIGNMENT_MM, 3)
    to_scan = error @ np.linalg.inv(head_motion(seed, kind, effects)) @ to_head
    return resample(acquired.volumes[UNWEIGHTED], acquired.plan.grid, NETWORK_GRID, affine_transform(to_scan))
