"""Every vendor, layout and kind of series: valid DICOM, right geometry and values, the tags that receivers go by."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.nicom import csareader
from pydicom import Dataset, dcmread

from simulator.acquisition import Acquired
from simulator.dicom.classic import write_classic
from simulator.dicom.enhanced import write_enhanced
from simulator.dicom.identity import Examination, uid
from simulator.dicom.mosaic import write_mosaic
from simulator.dicom.series import StoredSeries, stored
from simulator.grid import Grid
from simulator.protocol import UNWEIGHTED, Kind, SeriesPlan, Weighting, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner, Vendor
from simulator.subject import person
from tests.simulator.validity import errors

SCANNERS = [
    Scanner(Vendor.SIEMENS, 3.0, Layout.CLASSIC, "mprage", scanner_adc=True),
    Scanner(Vendor.SIEMENS, 1.5, Layout.CLASSIC, "spgr", scanner_adc=True, agent="gadobutrol"),
    Scanner(Vendor.SIEMENS, 3.0, Layout.ENHANCED, "mprage", scanner_adc=True),
    Scanner(Vendor.GE, 3.0, Layout.CLASSIC, "mprage", scanner_adc=True),
    Scanner(Vendor.GE, 1.5, Layout.CLASSIC, "spgr", scanner_adc=True),
    Scanner(Vendor.GE, 3.0, Layout.ENHANCED, "mprage", scanner_adc=True),
    Scanner(Vendor.PHILIPS, 3.0, Layout.CLASSIC, "mprage", scanner_adc=True),
    Scanner(Vendor.PHILIPS, 1.5, Layout.ENHANCED, "spgr", scanner_adc=True, agent="gadobutrol"),
]
NAMES = [f"{s.vendor}-{s.layout}-{s.t1_sequence}" for s in SCANNERS]
LAYOUTS = [
    *((vendor, layout) for vendor in Vendor for layout in (Layout.CLASSIC, Layout.ENHANCED)),
    (Vendor.SIEMENS, Layout.MOSAIC),
]


def exam_of(scanner: Scanner) -> Examination:
    return Examination("test", person(3), scanner, datetime(2024, 5, 6, 9, 30))


def small(plan: SeriesPlan, scanner: Scanner) -> StoredSeries:
    """The plan's series on 16 × 12 pixels and five slices, filled with known numbers."""
    whole = plan.grid
    grid = Grid.of((16, 12, 5), whole.directions, whole.spacing, whole.centre)
    rng = np.random.default_rng(plan.number)
    if plan.kind is Kind.ADC:
        volumes = {UNWEIGHTED: rng.uniform(0.5e-3, 3e-3, grid.shape).astype(np.float32)}
    else:
        volumes = {weighting: rng.uniform(0.1, 1.5, grid.shape).astype(np.float32) for weighting in plan.weightings}
    return stored(Acquired(replace(plan, grid=grid), volumes), scanner, 1.02)


def all_series(scanner: Scanner) -> list[StoredSeries]:
    return [small(plan, scanner) for plan in examination(scanner, stream(1, "examination"))]


def diffusion(scanner: Scanner) -> StoredSeries:
    return next(series for series in all_series(scanner) if series.plan.kind is Kind.DWI)


def write(scanner: Scanner, series: StoredSeries, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    writer = {Layout.CLASSIC: write_classic, Layout.ENHANCED: write_enhanced, Layout.MOSAIC: write_mosaic}
    diffusion_only = scanner.layout is Layout.MOSAIC and series.plan.kind is not Kind.DWI
    return writer[Layout.CLASSIC if diffusion_only else scanner.layout](exam_of(scanner), series, folder)


@pytest.mark.parametrize("scanner", SCANNERS, ids=NAMES)
def test_every_series_is_valid_dicom(scanner: Scanner, tmp_path: Path) -> None:
    for series in all_series(scanner):
        files = write(scanner, series, tmp_path / series.plan.kind)
        assert errors(files[0]) == [] and errors(files[-1]) == []


@pytest.mark.parametrize("scanner", SCANNERS, ids=NAMES)
def test_the_same_bytes_every_time(scanner: Scanner, tmp_path: Path) -> None:
    for series in all_series(scanner):
        for one, other in zip(
            write(scanner, series, tmp_path / "a" / series.plan.kind),
            write(scanner, series, tmp_path / "b" / series.plan.kind),
            strict=True,
        ):
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("scanner", SCANNERS[:2], ids=NAMES[:2])
def test_simpleitk_finds_each_voxel_where_it_was_scanned(scanner: Scanner, tmp_path: Path) -> None:
    for series in all_series(scanner):
        files = write(scanner, series, tmp_path / series.plan.kind)
        image = sitk.ReadImage([str(f) for f in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(files[0].parent))])
        first = series.pixels[UNWEIGHTED]
        k, j, i = 3, 7, 11
        point = series.plan.grid.point((i, j, k))
        found = image.TransformPhysicalPointToIndex([float(v) for v in point])
        if series.plan.kind is not Kind.DWI:  # a series of two volumes is no single image
            assert image[found] == first[k, j, i]


@pytest.mark.parametrize("scanner", [s for s in SCANNERS if s.layout is Layout.ENHANCED], ids=lambda s: s.vendor)
def test_enhanced_frames_carry_their_own_geometry_and_b_value(scanner: Scanner, tmp_path: Path) -> None:
    for series in all_series(scanner):
        files = write(scanner, series, tmp_path / series.plan.kind)
        by_volume = scanner.vendor is Vendor.SIEMENS and series.plan.kind is Kind.DWI
        assert len(files) == (2 if by_volume else 1)
        ds = dcmread(files[-1])
        shared, frames = ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence
        assert ds.NumberOfFrames == len(frames) == len(ds.pixel_array) == series.instances / len(files)
        for index, frame in enumerate(frames):
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            assert np.allclose(position, series.plan.grid.point((0, 0, index % 5)), atol=1e-5)
            if series.plan.kind is Kind.DWI:
                assert frame.MRDiffusionSequence[0].DiffusionBValue == (1000 if by_volume or index >= 5 else 0)
        plane = frames[0] if scanner.vendor is Vendor.SIEMENS else shared
        row = plane.PlaneOrientationSequence[0].ImageOrientationPatient[:3]
        assert np.allclose(row, series.plan.grid.directions[:, 0], atol=1e-6)
        volumes = {"low_dose": 1, "full_dose": 2}.get(series.plan.kind, 0)
        assert len(ds.get("ContrastBolusAgentSequence", [])) == volumes


def test_contrast_tags_give_the_dose_of_each_series(tmp_path: Path) -> None:
    for scanner in (SCANNERS[0], SCANNERS[1]):
        doses = {}
        for series in all_series(scanner):
            ds = dcmread(write(scanner, series, tmp_path / scanner.agent / series.plan.kind)[0])
            strength = {"gadoterate": 0.5, "gadobutrol": 1.0}[scanner.agent]
            doses[series.plan.kind] = float(ds.get("ContrastBolusTotalDose", 0)) * strength / float(ds.PatientWeight)
            if series.plan.kind is Kind.FULL_DOSE:
                last = float(ds.ContrastBolusVolume) * strength / float(ds.PatientWeight)
                assert last == pytest.approx(0.075, abs=2e-4)
        assert doses[Kind.T1] == doses[Kind.FLAIR] == 0
        assert doses[Kind.LOW_DOSE] == pytest.approx(0.025, abs=2e-4)
        assert doses[Kind.FULL_DOSE] == pytest.approx(0.1, abs=4e-4)


def private(ds: Dataset, group: int, creator: str, element: int) -> object:
    return ds.private_block(group, creator)[element].value


def test_each_vendor_writes_b_its_own_way(tmp_path: Path) -> None:
    values = {}
    for scanner in (SCANNERS[0], SCANNERS[3], SCANNERS[6]):
        files = write(scanner, diffusion(scanner), tmp_path / scanner.vendor)
        values[scanner.vendor] = dcmread(files[-1])
    assert int(str(private(values[Vendor.SIEMENS], 0x0019, "SIEMENS MR HEADER", 0x0C))) == 1000
    assert int(private(values[Vendor.GE], 0x0043, "GEMS_PARM_01", 0x39)[0]) % 10**9 == 1000  # type: ignore[index]
    assert private(values[Vendor.PHILIPS], 0x2001, "Philips Imaging DD 001", 0x03) == 1000
    assert "DiffusionBValue" not in values[Vendor.SIEMENS]  # syngo MR E11 has its own element only
    assert values[Vendor.GE].DiffusionBValue == values[Vendor.PHILIPS].DiffusionBValue == 1000


@pytest.mark.parametrize(("vendor", "layout"), LAYOUTS, ids=[f"{vendor}-{layout}" for vendor, layout in LAYOUTS])
@pytest.mark.parametrize("directions", [0, 3])
def test_three_b_values_and_single_directions(vendor: Vendor, layout: Layout, directions: int, tmp_path: Path) -> None:
    scanner = Scanner(vendor, layout=layout, b_values=(0, 500, 1000), directions=directions)
    series = diffusion(scanner)
    assert len(series.pixels) == (7 if directions else 3)
    files = write(scanner, series, tmp_path)
    assert [line for file in (files[0], files[-1]) for line in errors(file)] == []
    volumes = [weighted(file) for file in files]
    found = [one for volume in volumes for one in volume]
    per_volume = 1 if layout is Layout.MOSAIC else 5
    expected = [weighting for weighting in series.pixels for _ in range(per_volume)]
    assert [b for b, _ in found] == [weighting.b for weighting in expected]
    for (_, direction), weighting in zip(found, expected, strict=True):
        if vendor is Vendor.GE:  # along the axes of the image
            direction = None if direction is None else series.plan.grid.directions @ direction
        assert (direction is None) == (weighting.direction is None)
        if weighting.direction is not None:
            assert np.allclose(direction, weighting.direction, atol=1e-5)


def weighted(file: Path) -> list[tuple[float, np.ndarray | None]]:
    """b-value and gradient direction of each image in the file, from the elements that its vendor's own tools read."""
    ds = dcmread(file)
    if "PerFrameFunctionalGroupsSequence" in ds:
        return [_of_frame(frame, ds.Manufacturer) for frame in ds.PerFrameFunctionalGroupsSequence]
    if ds.Manufacturer == "SIEMENS":
        block = ds.private_block(0x0019, "SIEMENS MR HEADER")
        return [(float(block[0x0C].value), np.asarray(block[0x0E].value) if 0x0E in block else None)]
    if ds.Manufacturer.startswith("GE"):
        return [_of_ge(ds)]
    block = ds.private_block(0x2001, "Philips Imaging DD 001")
    vector = ds.private_block(0x2005, "Philips MR Imaging DD 001")
    direction = np.asarray([vector[element].value for element in (0xB0, 0xB1, 0xB2)])
    return [(float(block[0x03].value), direction if direction.any() else None)]


def _of_ge(ds: Dataset) -> tuple[float, np.ndarray | None]:
    block = ds.private_block(0x0019, "GEMS_ACQU_01")
    direction = np.asarray([float(block[element].value) for element in (0xBB, 0xBC, 0xBD)])
    b = int(ds.private_block(0x0043, "GEMS_PARM_01")[0x39].value[0]) % 10**9
    return float(b), direction if direction.any() else None


def _of_frame(frame: Dataset, manufacturer: str) -> tuple[float, np.ndarray | None]:
    item = frame.MRDiffusionSequence[0]
    if manufacturer.startswith("GE"):
        assert _of_ge(frame)[0] == item.DiffusionBValue
        return _of_ge(frame)
    gradient = item.get("DiffusionGradientDirectionSequence")
    return item.DiffusionBValue, np.asarray(gradient[0].DiffusionGradientOrientation) if gradient else None


def test_a_mosaic_holds_every_slice_where_siemens_puts_it(tmp_path: Path) -> None:
    scanner = Scanner(layout=Layout.MOSAIC)
    series = diffusion(scanner)
    files = write(scanner, series, tmp_path)
    assert len(files) == 2 and all(errors(f) == [] for f in files)
    ds = dcmread(files[1])
    assert "MOSAIC" in ds.ImageType and (ds.Rows, ds.Columns) == (36, 48)
    csa = csareader.get_csa_header(ds)
    assert csareader.is_mosaic(csa) and csareader.get_n_mosaic(csa) == 5
    assert csareader.get_scalar(csa, "B_value") == 1000
    assert np.allclose(csareader.get_slice_normal(csa), series.plan.grid.directions[:, 2])
    assert np.array_equal(ds.pixel_array[12:24, 16:32], series.pixels[Weighting(1000)][4])
    # nibabel's page "DICOM mosaic": the first tile's corner from the position of the whole.
    spacing = np.array(ds.PixelSpacing, dtype=float)
    orientation = np.array(ds.ImageOrientationPatient, dtype=float)
    corner = np.array(ds.ImagePositionPatient, dtype=float)
    corner += orientation[:3] * spacing[1] * (48 - 16) / 2 + orientation[3:] * spacing[0] * (36 - 12) / 2
    assert np.allclose(corner, series.plan.grid.origin, atol=1e-4)


def test_uids_are_valid_and_depend_on_their_parts() -> None:
    assert uid("a", 1) == uid("a", 1) != uid("a", 2)
    assert uid("a", 1).is_valid and uid("a", 1).startswith("2.25.")
