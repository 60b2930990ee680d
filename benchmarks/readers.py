"""Who reads which DICOM series rightly: ours, dicom2nifti, SimpleITK, dcm2niix, on sound and on faulty series.

python -m benchmarks.readers [--only sound|real|faulty|time] [--each] [--real ../shared/data/real/siemens_xa30]

Every vendor and layout that the simulator writes, on full numbers of slices and coarse pixels of known values; then the
real series; then the faults; then the CPU time of a T1 of 176 slices. The tables are those of docs/conversion.md.
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from benchmarks.reading import READERS, Image, by_us, judged
from simulator.acquisition import Acquired
from simulator.dicom import spoil
from simulator.dicom.classic import write_classic
from simulator.dicom.enhanced import write_enhanced
from simulator.dicom.identity import Examination
from simulator.dicom.mosaic import write_mosaic
from simulator.dicom.series import StoredSeries, stored
from simulator.grid import Grid
from simulator.protocol import Kind, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner, Vendor
from simulator.subject import person
from tests.simulator.validity import errors

SCANNERS = [
    *(Scanner(vendor, layout=layout, scanner_adc=True, t1_slice_mm=3.6)
      for layout in (Layout.CLASSIC, Layout.ENHANCED) for vendor in Vendor),
    Scanner(Vendor.SIEMENS, layout=Layout.MOSAIC, scanner_adc=True, t1_slice_mm=3.6),
]  # fmt: skip
WRITERS = {Layout.CLASSIC: write_classic, Layout.ENHANCED: write_enhanced, Layout.MOSAIC: write_mosaic}
Spoil = Callable[[list[Dataset]], list[Dataset]]
FAULTS: dict[str, Spoil] = {
    "middle slice missing": lambda images: spoil.without_slices(images, 7),
    "end slice missing": lambda images: spoil.without_slices(images, -1),
    "first slice missing": lambda images: spoil.without_slices(images, 0),
    "end slice missing, no count declared": lambda images: spoil.undeclared(spoil.without_slices(images, -1)),
    "two orientations": spoil.in_two_orientations,
    "a position twice": lambda images: spoil.with_duplicate(images, 4),
    "uneven spacing": spoil.unevenly_spaced,
    "gantry tilt of 12°": spoil.tilted,
}
HARMLESS = ("second echo", "ADC in the DWI series")  # to be converted, and rightly
PIXELS = (40, 32)


def simulated(
    scanner: Scanner, folder: Path, pixels: tuple[int, int] = PIXELS
) -> Iterator[tuple[StoredSeries, list[Path]]]:
    """T1, FLAIR, DWI and ADC through the true writers, of smooth numbers that no two slices share."""
    person_of = Examination("readers", person(3), scanner, datetime(2024, 5, 6, 9, 30))
    for plan in examination(scanner, stream(1, "examination")):
        if plan.kind in (Kind.LOW_DOSE, Kind.FULL_DOSE):
            continue
        whole = plan.grid
        grid = Grid.of((*pixels, whole.size[2]), whole.directions, whole.spacing, whole.centre)
        rng = np.random.default_rng(plan.number)
        high = 3e-3 if plan.kind is Kind.ADC else 1.5
        volumes = {w: rng.uniform(0.2 * high, high, grid.shape).astype(np.float32) for w in plan.weightings}
        series = stored(Acquired(replace(plan, grid=grid), volumes), scanner, 1.02)
        place = folder / f"{scanner.vendor}_{scanner.layout}_{scanner.directions}_{plan.kind}"
        place.mkdir()
        mosaic = scanner.layout is Layout.MOSAIC and plan.kind is not Kind.DWI
        yield series, WRITERS[Layout.CLASSIC if mosaic else scanner.layout](person_of, series, place)


def truth_of(series: StoredSeries) -> list[Image]:
    """The written values, volume by volume."""
    weighted = series.plan.kind is Kind.DWI
    return [
        Image(volume.transpose(2, 1, 0) * series.slope, series.plan.grid.matrix, float(w.b) if weighted else None)
        for w, volume in series.pixels.items()
    ]


def trace_of(truth: Sequence[Image]) -> list[Image]:
    """What we make of single directions: their geometric mean for each b-value, a zero being half the least signal."""
    images = []
    for b in dict.fromkeys(image.b_value for image in truth):
        stack = np.stack([image.array for image in truth if image.b_value == b])
        mean = np.exp(np.log(np.maximum(stack, stack[stack > 0].min() / 2)).mean(axis=0))
        trace = np.where((stack > 0).any(axis=0), mean, 0) if len(stack) > 1 else stack[0]
        images.append(Image(trace, truth[0].affine, b))
    return images


def sound(folder: Path) -> None:
    """The table of what each reader makes of sound series."""
    print("| series | dciodvfy errors | " + " | ".join(READERS) + " |\n|" + "---|" * (len(READERS) + 2))
    several = [replace(s, scanner_adc=False, b_values=(0, 500, 1000), directions=3) for s in SCANNERS]
    for scanner in [*SCANNERS, *several]:
        for series, files in simulated(scanner, folder):
            kind = series.plan.kind
            if kind is not Kind.DWI and (scanner.directions or scanner.layout is Layout.MOSAIC):
                continue
            truth = truth_of(series)
            words = [
                judged(trace_of(truth) if scanner.directions and read is by_us else truth, read, files)
                for read in READERS.values()
            ]
            name = f"{scanner.vendor} {scanner.layout} {kind}"
            name += ", 0/500/1000 × 3 directions" if scanner.directions else ""
            wrong = sum(len(errors(file)) for file in files)
            print(f"| {name} | {wrong} | " + " | ".join(words) + " |", flush=True)


def real(folder: Path) -> None:
    """Real series hold no truth but the scanner's: dcm2niix's voxels, which its author checks on these very files."""
    print("\n| real series | " + " | ".join(READERS) + " |\n|" + "---|" * (len(READERS) + 1))
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(place.glob("*.dcm"))
        truth = READERS["dcm2niix"](files)
        words = [judged(trace_of(truth) if read is by_us and len(truth) > 2 else truth, read, files)
                 for read in READERS.values()]  # fmt: skip
        print(f"| {folder.name} {place.name} | " + " | ".join(words) + " |", flush=True)


def faulty(folder: Path, each: bool) -> None:
    """What each reader does with each fault, over all vendors, classic and enhanced; line by line if asked."""
    answers: dict[str, list[list[str]]] = {}
    for fault, name, datasets, truth in spoiled_series(folder):
        place = Path(tempfile.mkdtemp(dir=folder))
        files = [place / f"{number:04d}.dcm" for number in range(len(datasets))]
        for dataset, file in zip(datasets, files, strict=True):
            dataset.save_as(file, enforce_file_format=True)
        words = [judged(truth, read, files) for read in READERS.values()]
        if fault not in HARMLESS:
            words = [word.replace("right", "converts as if nothing were wrong") for word in words]
        answers.setdefault(fault, []).append(words)
        if each:
            print(f"| {fault} | {name} | " + " | ".join(words) + " |", flush=True)
    print("\n| fault (series) | " + " | ".join(READERS) + " |\n|" + "---|" * (len(READERS) + 1))
    for fault, rows in answers.items():
        counts = [Counter(_verdict(row[reader], fault) for row in rows) for reader in range(len(READERS))]
        cells = [", ".join(f"{word} {count}" for word, count in sorted(counted.items())) for counted in counts]
        print(f"| {fault} ({len(rows)}) | " + " | ".join(cells) + " |")
    print("\nOur reasons, of one series each:")
    for fault, rows in answers.items():
        print(f"- {fault}: {rows[0][0]}")


def _verdict(words: str, fault: str) -> str:
    first = words.split(":")[0]
    if first in ("refuses", "crashes") or (fault in HARMLESS and words == "right"):
        return first
    return "wrong"


def spoiled_series(folder: Path) -> Iterator[tuple[str, str, list[Dataset], list[Image]]]:
    """Fault, series, its spoiled datasets, and what there would be without the fault."""
    for scanner in SCANNERS:
        if scanner.layout is Layout.MOSAIC:
            continue
        written = {series.plan.kind: (series, files) for series, files in simulated(scanner, folder / "sound")}
        for kind in (Kind.FLAIR, Kind.DWI):
            series, files = written[kind]
            for fault, spoiled in FAULTS.items():
                yield fault, f"{scanner.vendor} {scanner.layout} {kind}", spoiled(_parsed(files)), truth_of(series)
        if scanner.layout is Layout.CLASSIC:
            series, files = written[Kind.FLAIR]
            dark = [replace(image, array=np.rint(image.array / series.slope) // 2 * series.slope)
                    for image in truth_of(series)]  # fmt: skip
            twice = spoil.with_second_echo(_parsed(files))
            yield "second echo", f"{scanner.vendor} classic flair", twice, [*truth_of(series), *dark]
        if scanner.layout is Layout.CLASSIC and scanner.vendor is Vendor.PHILIPS:
            (diffusion, files), (adc, maps) = written[Kind.DWI], written[Kind.ADC]
            mixed = spoil.with_adc(_parsed(files), _parsed(maps))
            yield "ADC in the DWI series", "philips classic dwi", mixed, [*truth_of(diffusion), *truth_of(adc)]


def _parsed(files: Sequence[Path]) -> list[Dataset]:
    return [copy.deepcopy(dcmread(file)) for file in files]


def timed(folder: Path, slices: int = 176) -> None:
    """CPU seconds of one T1 of 256 × 256 pixels, and of each layout's T1 as a multiple of ours; best of three."""
    print(f"\n| {slices} slices of 256 × 256 | " + " | ".join(f"{name}, CPU s" for name in list(READERS)[:3]) + " |")
    print("|" + "---|" * 4)
    for scanner in SCANNERS[:6]:
        finer = replace(scanner, t1_slice_mm=172.8 / slices, scanner_adc=False)
        files = next(files for series, files in simulated(finer, folder, (256, 256)) if series.plan.kind is Kind.T1)
        costs = [_cost(read, files) for read in list(READERS.values())[:3]]
        ratios = ["fails" if cost is None else f"{cost:.2f} ({cost / costs[0]:.1f}×)" for cost in costs[1:]]
        words = [f"{costs[0]:.2f}", *ratios]
        print(f"| {scanner.vendor} {scanner.layout} | " + " | ".join(words) + " |", flush=True)


def _cost(read: Callable[[Sequence[Path]], list[Image]], files: Sequence[Path]) -> float | None:
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        try:
            read(files)
        except Exception:  # noqa: BLE001 - a reader that fails has no time to compare
            return None
        best = min(best, time.process_time() - began)
    return float(best)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, default=Path("../shared/data/real/siemens_xa30"))
    parser.add_argument("--only", choices=("sound", "real", "faulty", "time"))
    parser.add_argument("--each", action="store_true", help="every faulty series on a line of its own")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for table in ("sound", "faulty/sound", "time"):
            (folder / table).mkdir(parents=True)
        if chosen.only in (None, "sound"):
            sound(folder / "sound")
        if chosen.only in (None, "real") and chosen.real.is_dir():
            real(chosen.real)
        if chosen.only in (None, "faulty"):
            faulty(folder / "faulty", chosen.each)
        if chosen.only in (None, "time"):
            timed(folder / "time")


if __name__ == "__main__":
    main()
