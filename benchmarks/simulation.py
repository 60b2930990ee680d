"""How fast patients are simulated, with one process and with several, and what the time goes into.

    python -m benchmarks.simulation --anatomy ../shared/data/anatomy

CPU seconds are those of all processes, their start (imports, reading heads) included: on a machine that others use too,
they say what subjects per minute do not.
"""

from __future__ import annotations

import argparse
import inspect
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import SimpleITK as sitk

from simulator import network, registration, study, subject
from simulator.acquisition import rician, sampled_on, scanner_adc, true_signal
from simulator.cohort import CohortPlan, simulate_cohort
from simulator.network import network_grid
from simulator.scanner import Scanner
from simulator.study import Subject, simulate_subject, write_study

STAGES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("anatomy: read the head", subject._head),
    ("anatomy: deform it", subject.deformed),
    ("anatomy: tissues, dura, vessels", subject.tissues),
    ("anatomy: brain", subject.brain_hull),
    ("anatomy: lesions", subject.Painter.paint),
    ("relaxation and diffusion maps", Subject.parameters),
    ("concentration", Subject.concentration),
    ("signal equations (with concentration)", true_signal),
    ("sampling on the native grid", sampled_on),
    ("noise", rician),
    ("scanner's ADC", scanner_adc),
    ("registration to MNI", registration.mni_to_head),
    ("resampling to the network's grid", network._aligned),
    ("writing .npz", inspect.unwrap(np.savez_compressed)),
    ("writing DICOM series", study.write_series),
    ("writing the DICOM Segmentation", study.write_segmentation),
)


def speed(anatomy: Path | None, scanner: Scanner | None, subjects: int, jobs: int) -> None:
    """Simulate a cohort and print how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        plan = CohortPlan(Path(folder) / "cohort", anatomy, scanner)
        before, began = _children_cpu(), time.perf_counter()
        made = len(list(simulate_cohort(plan, range(subjects), jobs)))
        wall, cpu = time.perf_counter() - began, _children_cpu() - before
    kind = "DICOM" if scanner else "network grid"
    rate = f"{made / wall * 60:6.1f} subjects/min {cpu / made:7.1f} CPU s/subject"
    print(f"{kind:13}{jobs:3} processes {rate}", flush=True)


def shares(title: str, work: Callable[[], object]) -> None:
    """Print what share of a subject's CPU time each stage has.

    By looking every few milliseconds at what is running: a profiler that hears of every call would make the writing of
    DICOM, millions of small calls, look twice as slow as it is.
    """
    stages = {stage.__code__: label for label, stage in STAGES}
    spent = dict.fromkeys(stages.values(), 0.0)
    last = began = time.process_time()

    def look(_signal: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.process_time()
        running = set()
        while frame is not None:
            running.add(stages.get(frame.f_code))
            frame = frame.f_back
        for label in running - {None}:
            spent[str(label)] += now - last
        last = now

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
    work()
    signal.setitimer(signal.ITIMER_PROF, 0)
    total = time.process_time() - began
    print(f"\n{title}: {total:.1f} CPU s in one process, one thread")
    for label, seconds in spent.items():
        if seconds:
            print(f"  {label:40}{seconds:6.2f} s {seconds / total:6.1%}")


def _network_subject(seed: int, anatomy: Path | None, file: Path) -> None:
    np.savez_compressed(file, allow_pickle=False, **asdict(network_grid(simulate_subject(seed, anatomy))))


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, help="label maps of heads; without it the packaged anatomy")
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()

    for scanner in (None, Scanner()):
        for jobs in sorted({1, arguments.jobs}):
            speed(arguments.anatomy, scanner, arguments.subjects, jobs)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    simulate_subject(0, arguments.anatomy)  # what is loaded once for a whole cohort is loaded now
    with tempfile.TemporaryDirectory() as folder:
        seed, out = 1, Path(folder)
        shares("network grid", lambda: _network_subject(seed, arguments.anatomy, out / "subject.npz"))
        shares("DICOM", lambda: write_study(simulate_subject(seed, arguments.anatomy), out))


if __name__ == "__main__":
    main()
