"""How far registration is from the truth inside the brain, on simulated acquisitions whose poses are known.

    python -m benchmarks.registration --studies 50
    python -m benchmarks.registration --studies 5 --reference --rivals-python var/rivals/bin/python
    python -m benchmarks.registration --glioma ../shared/data/real/glioma_tcga_fg_6692 --picture docs/registration.png

Each study is a head of ../shared/data/anatomy with a disease, its T1 (sagittal, 1 mm), FLAIR (oblique axial slices of
4 to 5 mm), b=0 (1.8 × 1.8 × 4 mm) and low dose, acquired on their own grids with coil sensitivity and noise. Before
each series but the T1 the head turns by up to 15° about any axis and moves by up to 20 mm in any direction, which takes
a part of some brains out of the field of view. "b0 bent" is b0 with echo-planar distortion of up to 3 mm, which no
rigid transform undoes. The error is the distance between where the true and the found transform put each point of the
brain. ``--keep FOLDER`` keeps the acquisitions, which take most of the time.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preprocessing.grid import NETWORK_GRID
from preprocessing.nifti import geometry_of, read_nifti
from preprocessing.prepare import on_network_grid
from preprocessing.processor import use_threads
from preprocessing.reference import register as reference
from preprocessing.register import affine_to_template, rigid
from preprocessing.resample import Matrix, resample
from preprocessing.volume import Volume
from simulator.acquisition import (
    NOISE_RATIO,
    echo_planar_distortion,
    rician,
    sampled_on,
    true_signal,
    white_signal,
)
from simulator.deformation import rotation
from simulator.protocol import Kind, examination
from simulator.randomness import smooth_field, stream
from simulator.scanner import Scanner
from simulator.subject import simulate_subject

LARGEST_TURN, LARGEST_SHIFT = 15.0, 20.0  # degrees, mm
BIAS, BENT = 0.1, 0.8  # as simulator.acquisition.ScanEffects
SERIES = {"flair": "flair", "b0": "dwi", "b0 bent": "dwi_d", "low dose": "low_dose"}  # and how it is stored
Arrays = dict[str, NDArray[np.generic]]
Found = tuple[Matrix, float]  # T1 to series, LPS mm, and the CPU seconds it took
Way = Callable[[Volume, NDArray[np.bool_], Volume], Found]


def acquired(seed: int, anatomy: Path) -> Arrays:
    """One study: images, grids (index to LPS mm), true matrices (T1 to series, LPS mm), brain and points in it."""
    subject, scanner = simulate_subject(seed, anatomy), Scanner()
    parameters = subject.parameters(scanner.field_tesla)
    coil = np.exp(BIAS * smooth_field(stream(seed, "coil"), subject.grid, 90.0)).astype(np.float32)
    index = np.argwhere(subject.brain)[::3000, ::-1]
    points = subject.grid.matrix @ np.c_[index, np.ones(len(index))].T
    study: Arrays = {"points": points}
    for plan in examination(scanner, stream(seed, "examination")):
        if plan.kind not in (Kind.T1, Kind.FLAIR, Kind.DWI, Kind.LOW_DOSE):
            continue
        rng = stream(seed, f"bench {plan.kind}")
        move = np.eye(4) if plan.kind is Kind.T1 else _moved(points[:3].mean(axis=1), rng)
        signal = true_signal(subject, parameters, scanner, plan) * coil
        signal /= white_signal(subject, parameters, scanner, plan)
        sigma = scanner.noise * NOISE_RATIO.get(plan.kind, 1.0)
        warps = {"": None} | ({"_d": echo_planar_distortion(subject, BENT)} if plan.kind is Kind.DWI else {})
        for suffix, warp in warps.items():
            study[plan.kind + suffix] = rician(sampled_on(signal, subject.grid, plan, move, warp), sigma, rng)
        study[plan.kind + "_m"], study[plan.kind + "_g"] = np.linalg.inv(move), plan.grid.matrix
        if plan.kind is Kind.T1:
            study["brain"] = sampled_on(subject.brain.astype(np.float32), subject.grid, plan, move) > 0.5
    return study


def _moved(centre: NDArray[np.float64], rng: np.random.Generator) -> Matrix:
    """A turn about the brain's centre and a shift, evenly spread in size up to the largest."""
    turn = rng.normal(size=3)
    turn *= rng.uniform(0, LARGEST_TURN) / np.linalg.norm(turn)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(turn)
    shift = rng.normal(size=3)
    shift *= rng.uniform(0, LARGEST_SHIFT) / np.linalg.norm(shift)
    matrix[:3, 3] = centre + shift - matrix[:3, :3] @ centre
    return matrix


def kept(seed: int, anatomy: Path, folder: Path | None) -> Arrays:
    """The study from ``folder``, or simulated and put there."""
    path = folder / f"s{seed:03d}.npz" if folder else None
    if path and path.exists():
        with np.load(path) as file:
            return dict(file)
    study = acquired(seed, anatomy)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **study)  # type: ignore[arg-type]
    return study


def volume(study: Arrays, name: str, source: str = "") -> Volume:
    array = np.ascontiguousarray(study[name], dtype=np.float32)
    return Volume(array, geometry_of(study[name.removesuffix("_d") + "_g"], array.shape[::-1]), source or name)


def distances(found: Matrix, true: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm((found @ points - true @ points)[:3], axis=0))


def ours(fixed: Volume, brain: NDArray[np.bool_], moving: Volume) -> Found:
    """Our registration."""
    start = time.process_time()
    return rigid(fixed, brain, moving), time.process_time() - start


def simpleitk(fixed: Volume, brain: NDArray[np.bool_], moving: Volume) -> Found:
    """The reference path."""
    start = time.process_time()
    return reference.rigid(fixed, brain, moving), time.process_time() - start


class Elastix:
    """elastix with its own rigid parameter map, in an environment of its own."""

    __name__ = "elastix"

    def __init__(self, python: Path) -> None:
        self.python = python

    def __call__(self, fixed: Volume, brain: NDArray[np.bool_], moving: Volume) -> Found:
        here, there = fixed.geometry.affine, moving.geometry.affine
        work = {"t1": fixed.array, "flair": moving.array, "brain": brain.astype(np.float32)}
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "work.npz", Path(folder) / "result.npz"
            np.savez(source, t1_grid=here, brain_grid=here, flair_grid=there, **work)
            program = Path(__file__).with_name("rivals.py")
            subprocess.run([self.python, program, "tuned", source, target], check=True, stdout=subprocess.DEVNULL)
            with np.load(target) as result:
                return result["flair_matrix"], float(result["seconds"])


def measure(arguments: argparse.Namespace) -> None:
    """Print the errors of every study and way, then the table."""
    ways: list[Way] = [ours]
    if arguments.reference:
        ways.append(simpleitk)
    if arguments.rivals_python:
        ways.append(Elastix(arguments.rivals_python))
    rows: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for seed in range(arguments.studies):
        study = kept(seed, arguments.anatomy, arguments.keep)
        t1, brain, points = volume(study, "t1"), np.asarray(study["brain"], dtype=bool), np.asarray(study["points"])
        for name, stored in SERIES.items():
            true, moving = study[stored.removesuffix("_d") + "_m"], volume(study, stored, name)
            for way in ways:
                matrix, seconds = way(t1, brain, moving)
                error = distances(matrix, true, points)
                rows[way.__name__, name].append((float(error.mean()), float(error.max()), seconds))
                away = distances(np.eye(4), true, points).max()
                print(f"study {seed:3} {name:9} {way.__name__:10} moved {away:5.1f} mm at most; error mean "
                      f"{error.mean():6.3f}, largest {error.max():6.3f} mm; {seconds:.2f} CPU-s", flush=True)
    print(f"\n{'way':10} {'series':9} studies  mean (mm)  worst mean  largest  above 2 mm  CPU-s")
    for (way, name), values in rows.items():
        mean, largest, seconds = np.array(values).T
        print(f"{way:10} {name:9} {len(mean):7} {mean.mean():10.3f} {mean.max():11.3f} {largest.max():8.2f} "
              f"{(largest > 2).sum():11} {np.median(seconds):6.2f}")  # fmt: skip


def glioma(folder: Path, python: Path | None, picture: Path | None) -> None:
    """The real patient's FLAIR to the T1: beside elastix, and drawn."""
    t1, flair, mask = (read_nifti(folder / f"{name}.nii.gz") for name in ("t1", "flair", "t1_hdbet_mask"))
    brain = mask.array > 0
    found = rigid(t1, brain, flair)
    index = np.argwhere(brain)[::200, ::-1]
    points = t1.geometry.affine @ np.c_[index, np.ones(len(index))].T
    print(f"FLAIR to T1 moves the brain by {distances(found, np.eye(4), points).max():.1f} mm at most")
    if python:
        theirs, _ = Elastix(python)(t1, brain, flair)
        apart = distances(found, theirs, points)
        print(f"ours and elastix: mean {apart.mean():.2f} mm, largest {apart.max():.2f} mm apart in the brain; "
              f"a voxel is {' × '.join(f'{s:.2f}' for s in flair.geometry.spacing)} mm")  # fmt: skip
        index_of = np.linalg.inv(flair.geometry.affine)
        voxels = np.abs(index_of @ (found - theirs) @ points)[:3].max(axis=1)
        print(f"in voxels of the FLAIR along i, j, k: {', '.join(f'{v:.2f}' for v in voxels)} at most")
    if picture:
        draw(picture, t1, flair, brain, found)


def draw(picture: Path, t1: Volume, flair: Volume, brain: NDArray[np.bool_], matrix: Matrix) -> None:
    """T1 edges over the FLAIR, where the scanner put it (above) and registered (below), on the network's grid."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    to_t1 = affine_to_template(t1, brain)
    shown = resample(t1, like=NETWORK_GRID, transform=to_t1).array
    edges = ndimage.gaussian_gradient_magnitude(shown, 1.0)
    inside = on_network_grid(brain, t1.geometry, to_t1)
    level = float(np.percentile(edges[inside], 80))
    edges[~ndimage.binary_dilation(inside, iterations=3)] = 0
    figure, axes = pyplot.subplots(2, 4, figsize=(12, 6.4), facecolor="black")
    for row, between in zip(axes, (np.eye(4), matrix), strict=True):
        image = resample(flair, like=NETWORK_GRID, transform=between @ to_t1).array
        white = float(np.percentile(image, 99.5))
        cuts = [(slice(None), 100, slice(None)), (slice(None), slice(None), 75), 80, 60]
        for axis, cut in zip(row, cuts, strict=True):
            up = "upper" if isinstance(cut, int) else "lower"
            axis.imshow(image[cut], cmap="gray", vmin=0, vmax=white, origin=up)
            axis.contour(edges[cut], [level], colors="#ffb000", linewidths=0.4)
            axis.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(picture, dpi=72, facecolor="black", pil_kwargs={"optimize": True})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=0)
    parser.add_argument("--anatomy", type=Path, default=Path("../shared/data/anatomy"))
    parser.add_argument("--keep", type=Path, help="a folder to keep the simulated acquisitions in, for the next time")
    parser.add_argument("--reference", action="store_true", help="the SimpleITK path beside it")
    parser.add_argument("--rivals-python", type=Path, help="an environment with itk-elastix: elastix beside it")
    parser.add_argument("--glioma", type=Path, help="the folder of the real patient")
    parser.add_argument("--picture", type=Path, help="where to draw the patient's FLAIR under T1 edges")
    arguments = parser.parse_args()
    use_threads(2)
    if arguments.studies:
        measure(arguments)
    if arguments.glioma:
        glioma(arguments.glioma, arguments.rivals_python, arguments.picture)


if __name__ == "__main__":
    main()
