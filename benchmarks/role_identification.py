"""Which role each series of simulated studies gets, over vendors and layouts, with names kept, removed and wrong.

    python -m benchmarks.role_identification --studies 200

The files are those of the simulator's own writers, with few and tiny images; the headers are read and judged by the
node. A second table does to some of the studies what sites and anonymisers do, all without any name in the header:
there the outcome is the right role, or no role where the header does not tell, never a wrong one.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.header_study import HeaderStudy, header_study, scanners
from benchmarks.role_variants import NAME_VARIANTS, SITE_VARIANTS, Variant, names_removed
from node.roles.rules import RoleRules
from preprocessing.volume import Role
from simulator.randomness import stream
from simulator.scanner import Scanner


@dataclass(frozen=True)
class Outcome:
    """What one series of one study became."""

    scanner: Scanner
    seed: int
    variant: str
    series: str
    expected: Role | None
    found: Role | None
    because: str

    @property
    def right(self) -> bool:
        return self.found == self.expected

    @property
    def line(self) -> str:
        scanner = self.scanner
        where = f"{scanner.vendor} {scanner.layout} {scanner.field_tesla:g} T {scanner.t1_sequence}"
        became = f"{self.series} became {self.found or 'no role'}, not {self.expected or 'no role'}"
        return f"{where}, seed {self.seed}, {self.variant}: {became}: {self.because}"


def outcomes(study: HeaderStudy, seed: int, variant: Variant, rules: RoleRules) -> list[Outcome]:
    """What the node makes of one study after ``variant``."""
    changed = variant(study, seed)
    decisions = changed.decisions(rules)
    return [
        Outcome(study.scanner, seed, variant.__name__, name, changed.expected[name], found.role, found.because)
        for name, found in decisions.items()
    ]


def random_studies(count: int) -> Iterator[tuple[int, HeaderStudy]]:
    """Every scanner in turn, the patient, protocol details and slice thickness drawn by the seed."""
    known = scanners()
    stream(0, "order of scanners").shuffle(known)
    for seed in range(count):
        scanner = known[seed % len(known)]
        rng = stream(seed, "role identification")
        thickness = float(rng.choice([1.0, 1.2, 1.6]))
        agent = str(rng.choice(["gadoterate", "gadobutrol"]))
        b_values = ((0, 1000), (0, 1000), (0, 800), (0, 500, 1000))[int(rng.integers(4))]
        directions = int(rng.choice([0, 0, 3]))
        yield seed, header_study(seed, replace(
            scanner, t1_slice_mm=thickness, agent=agent, b_values=b_values, directions=directions,
        ))  # fmt: skip


def table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip


def name_table(found: Sequence[Outcome]) -> str:
    """Vendor and layout by variant: series with the right role of all."""
    variants = [variant.__name__ for variant in NAME_VARIANTS]
    right, every = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    studies: dict[str, set[int]] = {}
    for one in found:
        key = f"{one.scanner.vendor} {one.scanner.layout}"
        studies.setdefault(key, set()).add(one.seed)
        every[key, one.variant] += 1
        right[key, one.variant] += one.right
    rows = [("scanner", "studies", *(variant.replace("_", " ") for variant in variants))]
    rows += [(key, str(len(seeds)), *(f"{right[key, v]}/{every[key, v]}" for v in variants))
             for key, seeds in studies.items()]  # fmt: skip
    return table(rows)


def site_table(found: Sequence[Outcome]) -> str:
    """Each variant: how many series came out as they must, without a role, and with a wrong one."""
    rows = [("what was done to the study", "as expected", "no role instead", "wrong role")]
    for variant in SITE_VARIANTS:
        mine = [one for one in found if one.variant == variant.__name__]
        silent = sum(not one.right and one.found is None for one in mine)
        wrong = sum(not one.right and one.found is not None for one in mine)
        right = f"{len(mine) - silent - wrong}/{len(mine)}"
        rows.append((variant.__name__.replace("_", " "), right, str(silent), str(wrong)))
    return table(rows)


def nameless(variant: Variant) -> Variant:
    """The variant, and every name gone."""

    def both(study: HeaderStudy, seed: int) -> HeaderStudy:
        return names_removed(variant(study, seed), seed)

    both.__name__ = variant.__name__
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--site-studies", type=int, default=14, help="studies for the second table")
    parser.add_argument("--reasons", action="store_true", help="also one reason of each kind in the second table")
    arguments = parser.parse_args()
    rules = RoleRules()
    by_name, by_site = list[Outcome](), list[Outcome]()
    for seed, study in random_studies(max(arguments.studies, arguments.site_studies)):
        if seed < arguments.studies:
            by_name += [one for variant in NAME_VARIANTS for one in outcomes(study, seed, variant, rules)]
        if seed < arguments.site_studies:
            by_site += [one for variant in SITE_VARIANTS for one in outcomes(study, seed, nameless(variant), rules)]
    print(name_table(by_name))
    print(f"\n{site_table(by_site)}")
    for one in (*by_name, *by_site):
        if not one.right:
            print(one.line)
    shown = dict[tuple[str, str], str]()
    for one in by_site:
        shown.setdefault((one.variant, one.series), f"{one.found or 'no role'}: {one.because}")
    if arguments.reasons:
        for (variant, series), because in shown.items():
            print(f"{variant}, {series}: {because}")


if __name__ == "__main__":
    main()
