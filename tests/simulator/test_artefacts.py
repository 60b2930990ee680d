"""Artefacts: nothing at severity 0, and in k-space what their physics says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread

from simulator.acquisition import ScanEffects, acquire
from simulator.artefacts import (
    CROP_MM,
    NYQUIST_RADIANS,
    Artefact,
    ArtefactKind,
    cropped,
    folded,
    ghosted,
    narrowed,
    parse_artefacts,
    spiked,
)
from simulator.grid import Grid
from simulator.network import around_brain
from simulator.protocol import Kind, SeriesPlan, examination
from simulator.randomness import stream
from simulator.scanner import Scanner
from simulator.study import write_study
from simulator.subject import Subject
from simulator.tissue import Tissue
from tests.simulator.conftest import SCANNER
from tests.simulator.validity import errors

PLANS = {plan.kind: plan for plan in examination(Scanner(), stream(7, "examination"))}


@pytest.fixture(scope="module")
def brain(subject: Subject) -> Subject:
    """The brain alone is quicker to scan."""
    return around_brain(subject)


def small(kind: Kind, size: tuple[int, int, int] = (64, 48, 6)) -> SeriesPlan:
    plan = PLANS[kind]
    return replace(plan, grid=Grid.of(size, plan.grid.directions, plan.grid.spacing, plan.grid.centre))


def head(plan: SeriesPlan) -> NDArray[np.float32]:
    """Something to look at: random numbers in the middle of the field of view."""
    image = np.zeros(plan.grid.shape, dtype=np.float32)
    image[:, 8:-8, 8:-8] = np.random.default_rng(plan.number).normal(1, 0.3, image[:, 8:-8, 8:-8].shape)
    return image


@pytest.mark.parametrize("kind", [Kind.T1, Kind.FLAIR, Kind.DWI])
def test_severity_zero_is_the_identity(kind: Kind, subject: Subject) -> None:
    plan = small(kind)
    image, rng = head(plan), stream(1, "artefact")
    assert cropped(plan, subject, 0) is plan and narrowed(plan, subject, 0) is plan
    assert folded(image, plan, plan) is image
    assert ghosted(lambda _: image, plan, 0, rng) is image and spiked(image, plan, 0, rng) is image


def test_ordered_at_zero_the_scan_is_what_it_was(brain: Subject) -> None:
    none = ScanEffects(artefacts=tuple(Artefact(kind, 0.0) for kind in ArtefactKind))
    for kind in (Kind.FLAIR, Kind.DWI):
        [clean], [ordered] = (acquire(brain, Scanner(), (PLANS[kind],), effects) for effects in (None, none))
        assert ordered.plan == clean.plan
        assert all(np.array_equal(ordered.volumes[w], clean.volumes[w]) for w in clean.plan.weightings)


@given(st.integers(1, 3), st.sampled_from([Kind.T1, Kind.FLAIR]))
def test_a_head_that_keeps_still_has_no_ghosts(seed: int, kind: Kind) -> None:
    image = head(small(kind))
    assert np.allclose(ghosted(lambda _: image, small(kind), 1.0, stream(seed, "motion")), image, atol=1e-5)


@pytest.mark.parametrize("kind", [Kind.T1, Kind.FLAIR])
def test_every_line_of_k_space_is_that_of_one_pose_and_the_centre_of_the_head_at_rest(kind: Kind) -> None:
    plan = small(kind)
    seen: list[NDArray[np.complex128]] = []

    def at(pose: NDArray[np.float64]) -> NDArray[np.float32]:
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)), "rigid"
        image = head(plan) * np.float32(1 + np.abs(pose - np.eye(4)).sum())
        seen.append(np.fft.fft(image, axis=2))
        return image

    lines = np.fft.fft(ghosted(at, plan, 1.0, stream(3, "motion")), axis=2)
    sources = [[np.allclose(lines[..., n], one[..., n], rtol=1e-3, atol=1e-3) for one in seen] for n in range(64)]
    assert all(any(line) for line in sources) and len({tuple(line) for line in sources}) >= 3
    assert np.allclose(lines[..., 0], np.fft.fft(head(plan), axis=2)[..., 0], atol=1e-3)
    if kind is Kind.FLAIR:  # four excitations of sixteen echoes
        assert all(sources[n] == sources[n + 4] for n in range(28))


def test_more_severe_motion_moves_more_of_the_image(brain: Subject) -> None:
    plan = PLANS[Kind.FLAIR]
    clean, *moved = (
        acquire(brain, Scanner(noise=0), (plan,), ScanEffects(artefacts=(Artefact(ArtefactKind.GHOSTING, s),)))[0]
        for s in (0.0, 0.3, 1.0)
    )
    [weighting] = plan.weightings
    truth = clean.volumes[weighting]
    change = [float(np.abs(one.volumes[weighting] - truth).mean() / truth.mean()) for one in moved]
    assert 0.03 < change[0] < change[1] < 0.8
    ghosts = [float(one.volumes[weighting][:, 100:150, :12].mean()) for one in moved]  # beside the head
    assert truth[:, 100:150, :12].mean() < 0.001 < ghosts[0] < ghosts[1]


def test_echo_planar_ghosts_come_from_alternating_lines() -> None:
    plan = small(Kind.DWI)
    image = head(plan)
    lines = np.fft.fft(image, axis=1)
    readout = np.linspace(0.7, 1.3, 64) * NYQUIST_RADIANS * 0.5
    sign = np.where(np.arange(48) % 2 == 0, 1, -1)
    expected = np.fft.ifft(lines * np.exp(1j * sign[:, None] * readout), axis=1)
    assert np.allclose(ghosted(lambda _: image, plan, 0.5, stream(1, "motion")), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "axis"), [(Kind.T1, 2), (Kind.DWI, 1)])
def test_wrap_around_is_what_too_few_lines_give(kind: Kind, axis: int) -> None:
    wide = small(kind, (64, 64, 6))
    narrow = small(kind, (32, 64, 6) if axis == 2 else (64, 32, 6))
    image = head(wide)
    every_other = np.fft.ifft(np.fft.fft(image, axis=axis).take(range(0, 64, 2), axis), axis=axis).real
    # Both fields of view have the same centre: the narrow one begins at line 16.
    assert np.allclose(folded(image, wide, narrow), np.roll(every_other, -16, axis), atol=1e-5)


@given(lines=st.integers(10, 64), whole=st.integers(10, 64))
def test_wrap_around_loses_nothing_and_keeps_the_middle_in_place(lines: int, whole: int) -> None:
    lines = min(lines, whole)
    wide, narrow = small(Kind.T1, (whole, 4, 3)), small(Kind.T1, (lines, 4, 3))
    image = np.random.default_rng(lines).random(wide.grid.shape).astype(np.float32)
    out = folded(image, wide, narrow)
    assert out.shape == narrow.grid.shape and np.allclose(out.sum(axis=2), image.sum(axis=2), rtol=1e-4)
    alone = np.zeros_like(image)
    alone[..., whole // 2] = 1
    assert folded(alone, wide, narrow)[..., whole // 2 - (whole - lines) // 2].min() == 1


def test_a_narrow_field_of_view_keeps_its_voxels_where_they_were(subject: Subject) -> None:
    for kind, axis in ((Kind.T1, 0), (Kind.FLAIR, 0), (Kind.DWI, 1)):
        wide, sizes = PLANS[kind], []
        for severity in (0.01, 0.5, 1.0):
            narrow = narrowed(wide, subject, severity)
            first = np.linalg.inv(wide.grid.matrix) @ [*narrow.grid.origin, 1.0]
            assert np.allclose(first, np.rint(first), atol=1e-6) and narrow.grid.spacing == pytest.approx(
                wide.grid.spacing
            )
            assert np.abs(narrow.grid.centre - wide.grid.centre).max() <= wide.grid.spacing[axis]
            sizes.append(narrow.grid.size[axis])
            assert [n for a, n in enumerate(narrow.grid.size) if a != axis] == [
                n for a, n in enumerate(wide.grid.size) if a != axis
            ]
        assert sizes[0] > sizes[1] > sizes[2] and sizes[2] == pytest.approx(0.6 * sizes[0], rel=0.05)


@pytest.mark.parametrize("kind", [Kind.T1, Kind.FLAIR])
def test_spikes_are_single_samples_of_k_space(kind: Kind) -> None:
    plan = small(kind)
    image = head(plan)
    change = spiked(image, plan, 0.5, stream(5, "spikes")) - image
    if plan.is_t1:
        spectra = [np.abs(np.fft.fftn(change))]
    else:
        assert 0 < sum(bool(slice_.any()) for slice_ in change) < len(change)
        spectra = [np.abs(np.fft.fft2(slice_)) for slice_ in change if slice_.any()]
    for spectrum in spectra:
        assert 1 <= (spectrum > spectrum.max() / 100).sum() <= 3
        assert 0.125 < spectrum.max() / spectrum.size < 0.8  # of white matter's signal


@pytest.mark.parametrize("kind", [Kind.T1, Kind.FLAIR])
def test_a_cropped_field_of_view_ends_below_the_vertex(kind: Kind, subject: Subject) -> None:
    plan = cropped(PLANS[kind], subject, 0.5)
    assert plan.grid.size == PLANS[kind].grid.size and np.allclose(plan.grid.directions, PLANS[kind].grid.directions)
    top = max(float(plan.grid.point(corner)[2]) for corner in np.ndindex(*(2, 2, 2)) for corner in
              [np.array(corner) * (np.array(plan.grid.size) - 1)])  # fmt: skip
    heights = np.flatnonzero((subject.tissues != Tissue.AIR).sum(axis=(1, 2)) > 100)
    vertex = subject.grid.origin[2] + heights[-1]
    assert vertex - top == pytest.approx(CROP_MM / 2, abs=25)  # its corners are tilted
    assert top < vertex < max(PLANS[kind].grid.point((0, 0, k))[2] for k in (0, PLANS[kind].grid.size[2])) + 128


def test_noise_and_bias_are_as_strong_as_ordered(brain: Subject) -> None:
    def flair(*artefacts: Artefact) -> NDArray[np.float32]:
        [acquired] = acquire(brain, Scanner(), (PLANS[Kind.FLAIR],), ScanEffects(artefacts=artefacts))
        return acquired.volumes[acquired.plan.weightings[0]]

    clean, noisy = flair(), flair(Artefact(ArtefactKind.NOISE, 0.5))
    corner = np.s_[:, :20, :20]  # air
    assert noisy[corner].mean() / clean[corner].mean() == pytest.approx(5.5, rel=0.02)
    shaded = flair(Artefact(ArtefactKind.BIAS, 1.0, Kind.FLAIR))
    inside = clean > 0.5
    low, high = np.percentile(shaded[inside] / clean[inside], [5, 95])
    assert high / low > 2


def test_a_study_with_artefacts_is_valid_and_its_truth_lies_on_what_was_acquired(
    subject: Subject, tmp_path: Path
) -> None:
    ordered = parse_artefacts(["wrap-around=0.6", "spikes=0.4", "dwi:cropping=0.5"])
    study = write_study(subject, tmp_path, SCANNER, effects=ScanEffects(artefacts=ordered))
    first = {folder: dcmread(sorted(folder.glob("*.dcm"))[0]) for folder in study.series}
    assert all(errors(sorted(folder.glob("*.dcm"))[0]) == [] for folder in first)
    full = first[study.full_dose]
    assert full.Columns < 200 and full.Rows == 256
    assert study.lesion is not None and study.adc is not None
    assert nib.load(study.lesion).shape == (full.Columns, full.Rows, full.ImagesInAcquisition)
    adc = first[study.adc]
    assert adc.Rows < 128 and adc.ImagesInAcquisition == PLANS[Kind.DWI].grid.size[2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("blur=0.5", "'blur' is not known; choose from ghosting, wrap-around, spikes, noise, bias, cropping"),
        ("t2:ghosting=0.5", "series 't2' is not known; choose from t1, flair, dwi, adc, low_dose, full_dose"),
        ("ghosting", "is written ghosting=0.5 or t1:ghosting=0.5; got 'ghosting'"),
        ("ghosting=much", "is written ghosting=0.5"),
        ("t1:ghosting=1.5", "severity 1.5 of ghosting is out of range"),
        ("noise=nan", "severity nan of noise is out of range"),
        ("adc:noise=0.5", "order the artefact for dwi"),
        ("", "artefact '' is not known"),
    ],
)
def test_what_is_no_artefact_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_artefacts([text])


def test_the_last_order_for_a_series_counts() -> None:
    effects = ScanEffects(artefacts=parse_artefacts(["noise=0.2", "t1:noise=0.7", "flair:bias=1"]))
    assert effects.severity(ArtefactKind.NOISE, Kind.T1) == 0.7
    assert effects.severity(ArtefactKind.NOISE, Kind.FLAIR) == 0.2
    assert effects.severity(ArtefactKind.BIAS, Kind.T1) == 0.0
