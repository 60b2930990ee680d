"""What the preparation costs, from DICOM files to the network's input, beside what a user would run instead.

    python -m benchmarks.preparation --rivals tuned ants simpleitk reference --rivals-python var/rivals/bin/python
    python -m benchmarks.preparation --brain-extraction
    python -m benchmarks.preparation --repeat 50

One simulated study: T1, FLAIR, DWI (its ADC computed) and low dose. Without brain extraction every way is given the
same true mask. Ours begins at the DICOM files; the rivals are given the arrays, so their reading costs nothing. CPU
seconds are user and system time of the whole process, ours the median of five runs after a first one. The rivals need
an environment of their own: see ``benchmarks/rivals.py``.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.adc import adc_map
from preprocessing.convert import convert_series
from preprocessing.grid import NETWORK_GRID, template
from preprocessing.nifti import geometry_of
from preprocessing.prepare import PreparationSettings, prepare, prepare_in_brain
from preprocessing.processor import use_threads
from preprocessing.resample import resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import Geometry, Role, Volume
from simulator.study import StudyFiles, Subject, simulate_subject, write_study

RIVALS = ("tuned", "ants", "simpleitk", "reference")
RUNS = 5


def volumes_of(files: StudyFiles) -> dict[Role, Volume]:
    """The four series from their DICOM files, as the node's conversion step makes them."""
    volumes = {
        role: convert_series(sorted(folder.glob("*.dcm"))).volumes[0]
        for role, folder in ((Role.T1, files.t1), (Role.FLAIR, files.flair), (Role.LOW_DOSE, files.low_dose))
    }
    assert files.dwi is not None
    diffusion = convert_series(sorted(files.dwi.glob("*.dcm")))
    volumes[Role.DWI] = diffusion.volumes[int(np.argmin(diffusion.b_values))]
    volumes[Role.ADC] = adc_map(diffusion.b_values, diffusion.volumes)
    return volumes


def true_brain(subject: Subject, grid: Geometry) -> NDArray[np.bool_]:
    """The brain on the T1's grid; the T1 is the series that did not move."""
    mask = Volume(subject.brain.astype(np.float32), geometry_of(subject.grid.matrix, subject.grid.size))
    return np.asarray(resample(mask, like=grid).array > 0.5)


def silent(step: str, share: float) -> None:
    """Progress that nobody hears."""


def memory() -> tuple[float, float]:
    """MiB of this process now and at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def ours(files: StudyFiles, brain: NDArray[np.bool_], settings: PreparationSettings, runs: int) -> float:
    """The median CPU seconds from DICOM to the network's input, after a first run; prints the parts."""
    rows = []
    for _ in range(runs + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        volumes = volumes_of(files)
        read = time.process_time() - cpu
        prepare_in_brain(volumes, brain, settings, silent)
        rows.append((time.process_time() - cpu, read, time.perf_counter() - wall))
    total, read, wall = np.median(rows[1:] or rows, axis=0)
    print(f"{settings.method:12} {total:8.2f} CPU-s, of it {read:.2f} for reading DICOM; {wall:.2f} s on the clock; "
          f"first run {rows[0][0]:.2f} CPU-s", flush=True)  # fmt: skip
    return float(total)


def rival(name: str, python: Path, volumes: dict[Role, Volume], brain: NDArray[np.bool_]) -> float:
    """The CPU seconds of a rival, from arrays to images on the network's grid."""
    series = {"t1": Role.T1, "flair": Role.FLAIR, "b0": Role.DWI, "adc": Role.ADC, "low_dose": Role.LOW_DOSE}
    named = {key: volumes[role] for key, role in series.items()}
    named |= {"brain": volumes[Role.T1].with_array(brain), "template": template()}
    work = {key: volume.array for key, volume in named.items()}
    work |= {f"{key}_grid": volume.geometry.affine for key, volume in named.items()}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "work.npz", Path(folder) / "result.npz"
        np.savez(source, network=NETWORK_GRID.affine, network_size=np.array(NETWORK_GRID.size), **work)
        subprocess.run([python, Path(__file__).with_name("rivals.py"), name, source, target], check=True)
        with np.load(target) as result:
            return float(result["seconds"])


def repeat(files: StudyFiles, brain: NDArray[np.bool_], settings: PreparationSettings, count: int) -> None:
    """Print what memory one preparation takes, and after how many."""
    before = memory()[0]
    for number in range(1, count + 1):
        prepare_in_brain(volumes_of(files), brain, settings, silent)
        if number in (1, 2, 5) or number % 10 == 0:
            now, most = memory()
            print(f"after {number:3}: {now:.0f} MiB, at most {most:.0f} MiB; before: {before:.0f} MiB", flush=True)


def with_brain_extraction(files: StudyFiles, settings: PreparationSettings) -> PreparedStudy:
    """The whole preparation, first with loading HD-BET and then without; prints both."""
    for what in ("first, HD-BET is loaded", "second"):
        cpu, wall = time.process_time(), time.perf_counter()
        study = prepare(volumes_of(files), settings, silent)
        print(f"with brain extraction ({what}): {time.perf_counter() - wall:.1f} s on the clock, "
              f"{time.process_time() - cpu:.1f} CPU-s, at most {memory()[1]:.0f} MiB", flush=True)  # fmt: skip
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--anatomy", type=Path, default=Path("../shared/data/anatomy"))
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=[])
    parser.add_argument("--rivals-python", type=Path, default=Path("var/rivals/bin/python"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--brain-extraction", action="store_true", help="the whole preparation, HD-BET included")
    parser.add_argument("--repeat", type=int, default=0, help="this many preparations, watching the memory")
    arguments = parser.parse_args()
    settings = PreparationSettings(threads=arguments.threads)
    use_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        subject = simulate_subject(arguments.seed, arguments.anatomy if arguments.anatomy.is_dir() else None)
        files = write_study(subject, Path(folder))
        if arguments.brain_extraction:
            with_brain_extraction(files, settings)
            return
        volumes = volumes_of(files)
        brain = true_brain(subject, volumes[Role.T1].geometry)
        if arguments.repeat:
            del subject, volumes
            repeat(files, brain, settings, arguments.repeat)
            return
        mine = ours(files, brain, settings, RUNS)
        for name in arguments.rivals:
            if name == "reference":
                theirs = ours(files, brain, replace(settings, method="reference"), 0)
            else:
                theirs = rival(name, arguments.rivals_python, volumes, brain)
            print(f"{name:12} {theirs:8.2f} CPU-s, {theirs / mine:.0f} times ours", flush=True)


if __name__ == "__main__":
    main()
