"""Quality control on simulated studies, half of them spoiled by one known fault each: what it catches, what it lets by.

    python -m benchmarks.quality --anatomy ../shared/data/anatomy --limits 40 --out quality     # the normal cohort
    python -m benchmarks.quality --anatomy ../shared/data/anatomy --studies 100 --out quality   # clean and spoiled

The first prints the distribution of every measure over clean studies, from which the limits in config.toml come, and
writes preprocessing/quality/normal.json; the second, on other patients, holds config.toml's limits against clean and
spoiled studies. Each study is a line of a file in ``--out``: an interrupted run goes on where it stopped, and --table
prints what is there. How the studies are made: benchmarks/quality_studies.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from benchmarks.quality_studies import FAULTS, Fault, Record, pair
from node.quality.rules import ALL_MEASURES, QualityRules
from node.quality.verdict import Finding, Verdict, assess
from node.settings import load_settings

FIRST_LIMIT_SEED, FIRST_TEST_SEED = 20_000, 40_000
NORMAL = Path("preprocessing/quality/normal.json")
ROBUST = 1.4826  # of the median absolute deviation, to the standard deviation of a normal distribution

# Which measures speak of which fault; any other that does is as welcome, but is not counted against specificity.
SPEAK_OF = {
    Fault.MOTION: {"ghosting", "similarity_z"},
    Fault.WRAP: {"wrap_around", "coverage", "brain_cut"},
    Fault.MISSING_SLICES: {"coverage", "overlap", "brain_cut"},
    Fault.VERTEX: {"coverage", "overlap", "brain_cut", "brain_scale", "brain_shape", "brain_volume"},
    Fault.PATIENT: {"similarity_z", "misalignment"},
    Fault.ORDER: {"low_dose_delay", "enhancement"},
    Fault.DOSE: {"dose", "enhancement"},
    Fault.SPIKES: {"spikes"},
    Fault.BIAS: {"bias"},
    Fault.REGISTRATION: {"similarity_z", "misalignment", "brain_shape", "rotation", "translation"},
}


def simulate(path: Path, anatomy: Path, wanted: Sequence[tuple[int, Fault]], jobs: int) -> list[Record]:
    """The records of these patients; those that ``path`` holds are not made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = read(path)
    there = {record.seed for record in done}
    missing = [(seed, fault) for seed, fault in wanted if seed not in there]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        running = {pool.submit(pair, seed, anatomy, fault): seed for seed, fault in missing}
        for finished in as_completed(running):
            records = finished.result()
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(record.line() + "\n" for record in records))
            done += records
            print(f"{len(done):4} studies", flush=True)
    return done


def read(path: Path) -> list[Record]:
    return [Record.read(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _one_thread() -> None:
    import SimpleITK as sitk
    import torch

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    torch.set_num_threads(1)


def print_distribution(records: Iterable[Record]) -> None:
    """Percentiles of every measure of the clean studies."""
    values: dict[str, list[float]] = {}
    for record in records:
        for measure in record.measures:
            if measure.known:
                values.setdefault(measure.key, []).append(measure.value)
    print("| measure | unit | n | least | 1 % | 5 % | median | 95 % | 99 % | most |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for key, found in sorted(values.items()):
        definition = ALL_MEASURES[key.partition(".")[0]]
        shown = [f"{value:.{definition.digits}f}" for value in np.percentile(found, (0, 1, 5, 50, 95, 99, 100))]
        print(f"| {key} | {definition.unit} | {len(found)} | {' | '.join(shown)} |")


def write_normal(records: Iterable[Record], count: int) -> None:
    """Median and robust standard deviation of the similarities, for ``similarity_z``."""
    values: dict[str, list[float]] = {}
    for record in records:
        for measure in record.measures:
            if measure.name == "similarity" and measure.role is not None:
                values.setdefault(str(measure.role), []).append(measure.value)
    similarity = {}
    for role, found in sorted(values.items()):
        middle = float(np.median(found))
        similarity[role] = [round(middle, 4), round(ROBUST * float(np.median(np.abs(np.array(found) - middle))), 4)]
    command = f"python -m benchmarks.quality --anatomy ../shared/data/anatomy --limits {count} --out quality"
    NORMAL.write_text(json.dumps({"command": command, "studies": count, "similarity": similarity}, indent=1) + "\n")
    print(f"{NORMAL}: {similarity}")


def print_table(records: Sequence[Record], rules: QualityRules) -> None:
    """Per fault: how many spoiled studies were rejected or warned of, how many clean ones its measures leave alone."""
    normal = json.loads(NORMAL.read_text())["similarity"]
    judged = [(record, _findings(record, rules, normal)) for record in records]
    clean = [(record, found) for record, found in judged if record.fault is Fault.NONE]
    print("| fault | spoiled | rejected | rejected or warned | sensitivity | specificity |")
    print("|---|---|---|---|---|---|")
    for fault in FAULTS:
        spoiled = [(record, found) for record, found in judged if record.fault is fault]
        rejected = sum(_worst(record, found) is Verdict.REJECT for record, found in spoiled)
        told = sum(_worst(record, found) is not Verdict.ACCEPT for record, found in spoiled)
        quiet = sum(not any(one.measure.name in SPEAK_OF[fault] for one in _against(found)) for _, found in clean)
        sensitivity = f"{told / len(spoiled):.2f}" if spoiled else "-"
        specificity = f"{quiet / len(clean):.2f}"
        print(f"| {fault} | {len(spoiled)} | {rejected} | {told} | {sensitivity} | {specificity} |")
    verdicts = [_worst(record, found) for record, found in clean]
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
    print(f"\nclean studies: {len(clean)}; " + ", ".join(f"{verdict} {count}" for verdict, count in counts.items()))
    print(f"specificity (not rejected) {1 - counts[Verdict.REJECT] / len(clean):.2f}, "
          f"without a single warning {counts[Verdict.ACCEPT] / len(clean):.2f}")  # fmt: skip
    for record, found in judged:
        worst = _worst(record, found)
        if (record.fault is Fault.NONE) != (worst is Verdict.ACCEPT) or (
            record.fault is not Fault.NONE and worst is not Verdict.REJECT
        ):
            said = "; ".join(one.because for one in _against(found)) or "nothing"
            print(f"seed {record.seed}, {record.fault} {record.detail}: {worst}: {said}")


def _findings(record: Record, rules: QualityRules, normal: dict[str, list[float]]) -> tuple[Finding, ...]:
    """Every measure against its limits, with the distance from normal that normal.json gives now."""
    alike = {one.role: one.value for one in record.measures if one.name == "similarity"}
    measures = []
    for one in record.measures:
        if one.name == "similarity_z" and one.role is not None:
            middle, spread = normal[str(one.role)]
            one = type(one)(one.name, (alike[one.role] - middle) / spread, one.role)
        measures.append(one)
    return assess(measures, rules).findings


def _against(found: Iterable[Finding]) -> list[Finding]:
    return [one for one in found if one.verdict is not Verdict.ACCEPT]


def _worst(record: Record, found: Iterable[Finding]) -> Verdict:
    verdicts = {one.verdict for one in found}
    if record.held or Verdict.REJECT in verdicts:
        return Verdict.REJECT
    return Verdict.WARN if Verdict.WARN in verdicts else Verdict.ACCEPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, required=True, help="a folder of head label maps")
    parser.add_argument("--out", type=Path, default=Path("quality"), help="where the studies' measures are kept")
    parser.add_argument("--limits", type=int, help="clean studies to take limits from")
    parser.add_argument("--studies", type=int, help="studies to judge, half of them clean, half of them spoiled")
    parser.add_argument("--first-seed", type=int, default=FIRST_TEST_SEED, help="of the studies to judge")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--table", action="store_true", help="simulate nothing, print what is there")
    arguments = parser.parse_args()

    if arguments.limits:
        path = arguments.out / "clean.jsonl"
        wanted = [(FIRST_LIMIT_SEED + n, Fault.NONE) for n in range(arguments.limits)]
        records = read(path) if arguments.table else simulate(path, arguments.anatomy, wanted, arguments.jobs)
        print_distribution(records)
        write_normal(records, len(records))
    if arguments.studies:
        path = arguments.out / "studies.jsonl"
        wanted = [(arguments.first_seed + n, FAULTS[n % len(FAULTS)]) for n in range(arguments.studies // 2)]
        records = read(path) if arguments.table else simulate(path, arguments.anatomy, wanted, arguments.jobs)
        print_table(records, load_settings(Path("config.toml")).quality)


if __name__ == "__main__":
    main()
