"""A cohort at its door: the same bytes whatever the number of processes, and whole subjects only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from simulator.acquisition import ScanEffects
from simulator.artefacts import Artefact, ArtefactKind
from simulator.cohort import CohortPlan, simulate_cohort
from simulator.lesions import Condition, LesionSettings
from simulator.network import NETWORK_SIZE
from simulator.scanner import Layout, Scanner, Vendor
from simulator.study import network_grid, simulate_subject, write_study
from simulator.subject import SubjectSettings


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
    subject = simulate_subject(3)
    here = write_study(subject, tmp_path / "here", scanner).folder
    assert len(list(there.rglob("*.dcm"))) >= 5
    assert digests(there) == digests(here)
    truth = json.loads((there / "subject.json").read_text())
    assert truth == {"seed": 3, "head": subject.head, "condition": str(subject.condition)}


NONE_SICK = SubjectSettings(lesions=LesionSettings({Condition.NONE: 1.0}))
GHOSTS = ScanEffects(artefacts=(Artefact(ArtefactKind.GHOSTING, 0.5),))


@pytest.fixture
def begun(tmp_path: Path) -> CohortPlan:
    """A cohort of DICOM studies that has been begun; it has no subject yet."""
    heads = tmp_path / "heads"
    heads.mkdir()
    (heads / "head_01.nii.gz").write_bytes(b"one head")
    plan = CohortPlan(tmp_path / "cohort", heads, Scanner())
    assert list(simulate_cohort(plan, range(0), jobs=1)) == []
    return plan


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (lambda plan: replace(plan, scanner=Scanner(vendor=Vendor.GE)), 'scanner.vendor was "siemens", not "ge"'),
        (lambda plan: replace(plan, scanner=Scanner(b_values=(0, 500, 1000))), "scanner.b_values was"),
        (lambda plan: replace(plan, scanner=None), "scanner was given, not null"),
        (lambda plan: replace(plan, anatomy=None), "anatomy was given, not null"),
        (lambda plan: replace(plan, settings=NONE_SICK), "settings.lesions.proportions.metastases was 0.38, not null"),
        (lambda plan: replace(plan, effects=GHOSTS), "effects.artefacts was"),
    ],
)
def test_a_cohort_is_not_continued_otherwise_than_it_was_begun(
    begun: CohortPlan, changed: Callable[[CohortPlan], CohortPlan], complaint: str
) -> None:
    with pytest.raises(ValueError, match="was begun otherwise") as refused:
        list(simulate_cohort(changed(begun), range(1), jobs=1))
    assert complaint in str(refused.value)
    assert not list(begun.out.glob("subject_*"))
    assert list(simulate_cohort(begun, range(0), jobs=1)) == [], "as it was begun it goes on"


def test_heads_are_known_by_their_content(begun: CohortPlan, tmp_path: Path) -> None:
    moved = (tmp_path / "heads").rename(tmp_path / "moved")
    assert list(simulate_cohort(replace(begun, anatomy=moved), range(0), jobs=1)) == []
    (moved / "head_01.nii.gz").write_bytes(b"another head")
    with pytest.raises(ValueError, match=r"anatomy.head_01.nii.gz was"):
        list(simulate_cohort(replace(begun, anatomy=moved), range(0), jobs=1))


def test_a_folder_that_does_not_say_how_it_was_made_is_left_alone(tmp_path: Path) -> None:
    plan = CohortPlan(tmp_path, None, Scanner())
    plan.place(0).mkdir()
    with pytest.raises(ValueError, match=r"holds subjects but no cohort.json"):
        list(simulate_cohort(plan, range(1), jobs=1))
    (tmp_path / "cohort.json").write_text("{")
    with pytest.raises(ValueError, match=r"cohort.json cannot be read"):
        list(simulate_cohort(plan, range(1), jobs=1))


def test_artefacts_are_not_truth() -> None:
    with pytest.raises(ValueError, match="the truth, without artefacts"):
        CohortPlan(Path("cohort"), None, None, effects=GHOSTS)
