"""A cohort at its door: the same bytes whatever the number of processes, and whole subjects only."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from simulator.cohort import CohortPlan, simulate_cohort
from simulator.network import NETWORK_SIZE
from simulator.scanner import Layout, Scanner, Vendor
from simulator.study import network_grid, simulate_subject, write_study


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_interrupted_cohort_goes_on_and_its_volumes_are_those_of_the_seed(tmp_path):
    plan = CohortPlan(tmp_path / "cohort", None, None)
    running = simulate_cohort(plan, range(1), jobs=1)
    first = next(running)
    running.close()  # interrupted before the end
    stamp = first.stat().st_mtime_ns
    assert len(list(simulate_cohort(plan, range(2), jobs=2))) == 2
    assert first.stat().st_mtime_ns == stamp, "what was there is kept"
    assert not (plan.out / ".partial").exists()
    truth = asdict(network_grid(simulate_subject(0)))
    with np.load(first) as volumes:
        for name in ("t1", "flair", "adc", "low_dose", "full_dose"):
            # The last bit depends on SimpleITK's threads: one in a cohort's processes, more in this one.
            np.testing.assert_allclose(volumes[name], truth[name], atol=1e-6)
        assert all(np.array_equal(volumes[name], truth[name]) for name in ("brain", "lesion"))
        assert volumes["full_dose"].shape == NETWORK_SIZE[::-1]


def test_a_study_has_the_same_bytes_in_another_process(tmp_path):
    scanner = Scanner(vendor=Vendor.PHILIPS, layout=Layout.ENHANCED)
    [there] = simulate_cohort(CohortPlan(tmp_path / "there", None, scanner), range(3, 4), jobs=1)
    here = write_study(simulate_subject(3), tmp_path / "here", scanner).folder
    assert len(list(there.rglob("*.dcm"))) >= 5
    assert digests(there) == digests(here)
