"""Many simulated patients: over several processes, each whole or not there, the same bytes however it was begun."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from simulator.acquisition import ScanEffects
from simulator.heads import head_files
from simulator.scanner import Scanner
from simulator.study import network_grid, simulate_subject, write_study
from simulator.subject import SubjectSettings

RECORD = "cohort.json"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class CohortPlan:
    """What to simulate: DICOM studies of ``scanner``, or without one the true volumes on the network's grid, one .npz
    for each subject (the scanner is drawn from the seed then, and artefacts would not be truth).

    ``anatomy`` is a folder of label maps; ``settings`` say how subjects are drawn, ``effects`` how they are scanned.
    """

    out: Path
    anatomy: Path | None
    scanner: Scanner | None
    settings: SubjectSettings = field(default_factory=SubjectSettings)
    effects: ScanEffects = field(default_factory=ScanEffects)

    def __post_init__(self) -> None:
        if self.scanner is None and self.effects != ScanEffects():
            raise ValueError("volumes on the network's grid are the truth, without artefacts; simulate DICOM for them")

    def place(self, seed: int) -> Path:
        """Where the finished subject lies."""
        name = f"subject_{seed:05d}"
        return self.out / (name if self.scanner is not None else f"{name}.npz")


def simulate_cohort(plan: CohortPlan, seeds: range, jobs: int) -> Iterator[Path]:
    """Simulate the subjects that are not there yet, ``jobs`` at a time, and give each one's place as it is finished.

    A subject is made under a hidden name and renamed, so that an interrupted cohort holds whole subjects only. Raises
    ``ValueError`` when the folder holds a cohort that was begun with another plan: one cohort never mixes two.
    """
    _begin_or_continue(plan)
    (plan.out / _PARTIAL).mkdir(exist_ok=True)
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
    subject = simulate_subject(seed, plan.anatomy, plan.settings)
    partial = plan.out / _PARTIAL / f"{seed}-{os.getpid()}"
    if plan.scanner is not None:
        write_study(subject, partial, plan.scanner, effects=plan.effects).folder.replace(plan.place(seed))
        partial.rmdir()
    else:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **asdict(network_grid(subject)))
        partial.replace(plan.place(seed))
    return plan.place(seed)


def _begin_or_continue(plan: CohortPlan) -> None:
    """Write the plan into the folder, or see that it is the one that is there."""
    file, wanted = plan.out / RECORD, _record(plan)
    if not file.exists():
        if any(plan.out.glob("subject_*")):
            raise ValueError(f"{plan.out} holds subjects but no {RECORD} that says how they were made; use a new --out")
        plan.out.mkdir(parents=True, exist_ok=True)
        partial = plan.out / f"{_PARTIAL}-{os.getpid()}"
        partial.write_text(json.dumps(wanted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(file)
        return
    try:
        begun = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}); use a new --out") from error
    if begun != wanted:
        differences = "; ".join(_differences(begun, wanted))
        raise ValueError(
            f"the cohort in {plan.out} was begun otherwise: {differences}. Continue as it was begun, or use a new --out"
        )


def _record(plan: CohortPlan) -> dict[str, Any]:
    """Everything that decides what a seed becomes, as JSON gives it back. Heads are known by their content."""
    heads = None
    if plan.anatomy is not None:
        heads = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in head_files(plan.anatomy)}
    settings = {key: value for key, value in asdict(plan).items() if key not in ("out", "anatomy")}
    record: dict[str, Any] = json.loads(json.dumps({"anatomy": heads, **settings}))
    return record


def _differences(begun: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(begun, dict) and isinstance(wanted, dict):
        for key in sorted({*begun, *wanted}):
            yield from _differences(begun.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif begun != wanted:
        yield f"{name} was {_shortly(begun)}, not {_shortly(wanted)}"


def _shortly(value: Any) -> str:
    """A value in words that do not fill the screen: a hash by its beginning, a group as that."""
    if isinstance(value, dict):
        return "given"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:24]}…"
