"""Many simulated patients: over several processes, each whole or not there, the same bytes however it was begun."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from simulator.scanner import Scanner
from simulator.study import network_grid, simulate_subject, write_study

_PARTIAL = ".partial"


@dataclass(frozen=True)
class CohortPlan:
    """What to simulate: DICOM studies of ``scanner``, or without one the true volumes on the network's grid, one .npz
    for each subject (the scanner is drawn from the seed then). ``anatomy`` is a folder of label maps."""

    out: Path
    anatomy: Path | None
    scanner: Scanner | None

    def place(self, seed: int) -> Path:
        """Where the finished subject lies."""
        name = f"subject_{seed:05d}"
        return self.out / (name if self.scanner is not None else f"{name}.npz")


def simulate_cohort(plan: CohortPlan, seeds: range, jobs: int) -> Iterator[Path]:
    """Simulate the subjects that are not there yet, ``jobs`` at a time, and give each one's place as it is finished.

    A subject is made under a hidden name and renamed, so that an interrupted cohort holds whole subjects only.
    """
    (plan.out / _PARTIAL).mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not plan.place(seed).exists()]
    yield from (plan.place(seed) for seed in seeds if seed not in missing)
    # Fresh processes, not forked ones: SimpleITK and torch have started threads that a fork would not take along.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for done in as_completed([pool.submit(_simulate, plan, seed) for seed in missing]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)  # interrupted: what has begun is finished, the rest is for the next call
    shutil.rmtree(plan.out / _PARTIAL)


def _simulate(plan: CohortPlan, seed: int) -> Path:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the subjects are what runs side by side
    subject = simulate_subject(seed, plan.anatomy)
    partial = plan.out / _PARTIAL / f"{seed}-{os.getpid()}"
    if plan.scanner is not None:
        write_study(subject, partial, plan.scanner).folder.replace(plan.place(seed))
        partial.rmdir()
    else:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **asdict(network_grid(subject)))
        partial.replace(plan.place(seed))
    return plan.place(seed)
