"""Studies whose headers are what the simulated scanners write, with few and tiny images so that they cost little.

A study is held as the bytes of its files: what is changed goes through pydicom, what is read goes through the node's
own header reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from node.header.instance import scan
from node.roles.identify import RoleDecision, identify
from node.roles.rules import RoleRules
from node.roles.series_facts import SeriesFacts
from preprocessing.volume import Role
from simulator.acquisition import Acquired
from simulator.dicom.identity import Examination
from simulator.dicom.series import stored
from simulator.grid import Grid
from simulator.protocol import Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner, Vendor
from simulator.study import start_of, write_series
from simulator.subject import person

Edit = Callable[[str, Dataset], None]

PIXELS = 4  # across an image, each as large as the scanner's own
SLICES = 16  # at least, as far apart as covers what the scanner covers


@dataclass(frozen=True)
class HeaderStudy:
    """``series`` holds the files of each series by its name, in the order of acquisition; ``expected`` the roles."""

    scanner: Scanner
    series: Mapping[str, tuple[bytes, ...]]
    expected: Mapping[str, Role | None]

    def edited(self, edit: Edit) -> HeaderStudy:
        """The study with ``edit(name of the series, dataset)`` done to every file."""
        return replace(self, series={
            name: tuple(_edited(file, name, edit) for file in files) for name, files in self.series.items()
        })  # fmt: skip

    def first(self, name: str) -> Dataset:
        """The first file of one series."""
        return dcmread(BytesIO(self.series[name][0]))

    def with_series(self, name: str, files: Iterable[bytes], role: Role | None) -> HeaderStudy:
        """The study with one series more."""
        return replace(
            self, series={**self.series, name: tuple(files)}, expected={**self.expected, name: role}
        )

    def expecting(self, **roles: Role | None) -> HeaderStudy:
        """The study with other roles expected of some series."""
        return replace(self, expected={**self.expected, **roles})

    def decisions(self, rules: RoleRules) -> dict[str, RoleDecision]:
        """What the node decides on each series, by its name."""
        facts = {name: SeriesFacts.of(scan(BytesIO(file)) for file in files) for name, files in self.series.items()}
        found = identify(list(facts.values()), rules)
        return {name: found[one.uid] for name, one in facts.items()}


def scanners() -> list[Scanner]:
    """Every scanner that the simulator has: vendor, layout, field, T1 sequence, with and without an ADC map."""
    found = []
    for vendor in Vendor:
        for layout in Layout:
            for field in (1.5, 3.0):
                for sequence in ("mprage", "spgr"):
                    for adc in (False, True):
                        try:
                            found.append(Scanner(vendor, field, layout, sequence, adc))
                        except ValueError:
                            continue  # mosaics are Siemens' own
    return found


def header_study(seed: int, scanner: Scanner) -> HeaderStudy:
    """The examination of one simulated patient, with constant pixels."""
    plans = examination(scanner, stream(seed, "examination"))
    return HeaderStudy(
        scanner,
        {str(plan.kind): written(seed, scanner, plan) for plan in plans},
        {str(plan.kind): Role(str(plan.kind)) for plan in plans},
    )


def written(seed: int, scanner: Scanner, plan: SeriesPlan) -> tuple[bytes, ...]:
    """The files of one series as the scanner's own writer makes them, from a coarse grid and constant pixels."""
    exam = Examination(f"headers of {seed} {scanner}", person(seed), scanner, start_of(seed))
    coarse = replace(plan, grid=_coarse(plan.grid))
    value = 0.8e-3 if plan.kind is Kind.ADC else 1.0
    image = np.full(coarse.grid.shape, value, dtype=np.float32)
    acquired = Acquired(coarse, dict.fromkeys(plan.weightings, image))
    with TemporaryDirectory() as folder:
        place = write_series(exam, stored(acquired, scanner, 1.0), Path(folder))
        return tuple(path.read_bytes() for path in sorted(place.glob("*.dcm")))


def _coarse(grid: Grid) -> Grid:
    """A few pixels of each n-th slice."""
    step = max(grid.size[2] // SLICES, 1)
    return Grid.from_matrix((PIXELS, PIXELS, grid.size[2] // step), grid.matrix @ np.diag([1, 1, step, 1]))


def _edited(file: bytes, name: str, edit: Edit) -> bytes:
    ds = dcmread(BytesIO(file))
    edit(name, ds)
    changed = BytesIO()
    dcmwrite(changed, ds)
    return changed.getvalue()
