"""Series of every form against the voxels and the geometry that they were made from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from benchmarks.reading import by_dicom2nifti, by_simpleitk, by_us, judged
from preprocessing.convert import convert_series
from preprocessing.volume import Volume
from simulator.protocol import Kind
from simulator.scanner import Scanner, Vendor
from tests.preprocessing import series
from tests.simulator.dicom.test_layouts import all_series
from tests.simulator.dicom.test_layouts import write as write_scanned


def require_same(found: Volume, expected: Volume, tolerance: float = 0.0) -> None:
    """The same voxels at the same places."""
    assert found.geometry.size == expected.geometry.size
    np.testing.assert_allclose(found.geometry.affine, expected.geometry.affine, atol=2e-5)
    assert found.geometry.frame_of_reference_uid == series.REFERENCE
    assert found.source == series.SERIES
    assert found.array.dtype == np.float32
    np.testing.assert_allclose(found.array, expected.array, atol=tolerance)


def test_classic_series(tmp_path: Path) -> None:
    truth = series.truth()
    converted = convert_series(series.write(series.classic(truth), tmp_path))
    require_same(converted.volumes[0], truth)
    assert converted.b_values == (0.0,)
    assert converted.reader == "classic, 1 volume"


@pytest.mark.parametrize("manufacturer", ["SIEMENS", "GE MEDICAL SYSTEMS", "Philips", "UIH", ""])
def test_classic_series_of_every_vendor(tmp_path: Path, manufacturer: str) -> None:
    truth = series.truth()
    images = series.classic(truth)
    for image in images:
        image.Manufacturer = manufacturer
    require_same(convert_series(series.write(images, tmp_path)).volumes[0], truth)


def test_rescale_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    truth = series.truth()
    truth = truth.with_array(truth.array * 0.25 - 5)
    converted = convert_series(series.write(series.classic(truth, slope=0.25, intercept=-5), tmp_path))
    require_same(converted.volumes[0], truth, tolerance=1e-4)


@pytest.mark.parametrize("legacy", [False, True])
def test_multi_frame_image(tmp_path: Path, legacy: bool) -> None:
    truth = series.truth()
    truth = truth.with_array(truth.array * 0.5)
    converted = convert_series(series.write([series.enhanced(truth, slope=0.5, legacy=legacy)], tmp_path))
    require_same(converted.volumes[0], truth, tolerance=1e-4)
    assert converted.reader == "multi-frame, 1 volume"


@pytest.mark.parametrize("legacy", [False, True])
def test_enhanced_diffusion_over_many_files(tmp_path: Path, legacy: bool) -> None:
    low, high = series.truth(seed=1), series.truth(seed=2)
    files = series.write([series.enhanced(high, b_value=1000, legacy=legacy),
                          series.enhanced(low, b_value=0, legacy=legacy)], tmp_path)  # fmt: skip
    converted = convert_series(files)
    assert converted.b_values == (0.0, 1000.0)
    require_same(converted.volumes[0], low)
    require_same(converted.volumes[1], high)


def test_mosaic(tmp_path: Path) -> None:
    low, high = series.truth(seed=1), series.truth(seed=2)
    converted = convert_series(series.write([series.mosaic(high, 800), series.mosaic(low, 0)], tmp_path))
    assert converted.b_values == (0.0, 800.0)
    require_same(converted.volumes[0], low)
    require_same(converted.volumes[1], high)


@pytest.mark.parametrize("vendor", series.B_VALUES)
def test_classic_diffusion_is_split_by_b_value(tmp_path: Path, vendor: str) -> None:
    low, high = series.truth(seed=1), series.truth(seed=2)
    images = [*series.classic(low), *series.classic(high, first=9)]
    for image in images:
        series.B_VALUES[vendor](image, 1000 if image.InstanceNumber >= 9 else 0)
    converted = convert_series(series.write(images, tmp_path))
    assert converted.b_values == (0.0, 1000.0)
    require_same(converted.volumes[0], low)
    require_same(converted.volumes[1], high)


def test_directions_are_averaged_geometrically(tmp_path: Path) -> None:
    directions = [series.truth(seed=seed) for seed in (1, 2, 3)]
    images = []
    for number, (volume, b) in enumerate(zip(directions, (995, 1000, 1005), strict=True)):
        for image in series.classic(volume, first=8 * number + 1):
            series.standard_b(image, b)
            images.append(image)
    converted = convert_series(series.write(images, tmp_path))
    assert converted.b_values == (1000.0,)
    mean = np.exp(np.mean([np.log(volume.array) for volume in directions], axis=0))
    require_same(converted.volumes[0], directions[0].with_array(mean), tolerance=0.01)


def test_a_vendors_own_trace_image_stands_for_its_directions_and_its_adc_is_kept_apart(tmp_path: Path) -> None:
    low, direction, trace, adc = (series.truth(seed=seed) for seed in range(4))
    images = []
    for number, (volume, b) in enumerate(((low, 0), (direction, 1000), (trace, 1000), (adc, 0))):
        for image in series.classic(volume, first=8 * number + 1):
            series.philips_b(image, b)
            if volume is trace:
                image.private_block(0x2001, "Philips Imaging DD 001").add_new(0x04, "CS", "I")
            if volume is adc:
                image.ImageType = ["DERIVED", "PRIMARY", "ADC", "ADC"]
            images.append(image)
    converted = convert_series(series.write(images, tmp_path))
    assert converted.b_values == (0.0, 1000.0)
    require_same(converted.volumes[0], low)
    require_same(converted.volumes[1], trace)
    assert converted.adc is not None
    require_same(converted.adc, adc)


def test_echoes_become_volumes_of_their_own(tmp_path: Path) -> None:
    first, second = series.truth(seed=1), series.truth(seed=2)
    images = [*series.classic(first), *series.classic(second, first=9)]
    for image in images:
        image.EchoTime = 10 if image.InstanceNumber < 9 else 90
    converted = convert_series(series.write(images, tmp_path))
    assert converted.b_values == (0.0, 0.0)
    assert {float(volume.array[0, 0, 0]) for volume in converted.volumes} == {
        float(first.array[0, 0, 0]), float(second.array[0, 0, 0])
    }  # fmt: skip


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    truth = series.truth(series.oblique((64, 48, 5)))
    images = series.classic(truth)
    for image in images:
        if syntax == DeflatedExplicitVRLittleEndian:
            image.file_meta.TransferSyntaxUID = syntax
        else:
            image.compress(syntax, generate_instance_uid=False)
    require_same(convert_series(series.write(images, tmp_path)).volumes[0], truth)


def test_jpeg_lossless(tmp_path: Path) -> None:
    truth = series.truth(series.oblique((64, 48, 5)))
    files = series.write(series.classic(truth), tmp_path)
    for file in files:
        subprocess.run(["dcmcjpeg", "+e1", str(file), str(file)], check=True)
        assert dcmread(file).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    require_same(convert_series(files).volumes[0], truth)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_multi_frame_image(tmp_path: Path, syntax: str) -> None:
    truth = series.truth(series.oblique((64, 48, 5)))
    image = series.enhanced(truth)
    image.compress(syntax, generate_instance_uid=False)
    require_same(convert_series(series.write([image], tmp_path)).volumes[0], truth)


def test_b_value_order(tmp_path: Path) -> None:
    """(0018,9087), also inside (0018,9117), before Siemens', GE's, Philips' and UIH's own."""
    order = ["standard", "sequence", "Siemens", "GE", "Philips", "UIH"]
    for leader, first in enumerate(order):
        low, high = series.classic(series.truth(seed=1)), series.classic(series.truth(seed=2), first=9)
        for image in (*low, *high):
            for rank, name in enumerate(order[leader:]):
                series.B_VALUES[name](image, (700 if image in high else 0) if rank == 0 else 100 * rank)
        assert convert_series(series.write([*low, *high], tmp_path / first)).b_values == (0.0, 700.0), first


def test_frame_without_direction_needs_no_b_value(tmp_path: Path) -> None:
    low, high = series.enhanced(series.truth(seed=1), b_value=0), series.enhanced(series.truth(seed=2), b_value=800)
    item = low.SharedFunctionalGroupsSequence[0].MRDiffusionSequence[0]
    item.DiffusionDirectionality = "NONE"
    del item.DiffusionBValue
    assert convert_series(series.write([low, high], tmp_path)).b_values == (0.0, 800.0)


@pytest.mark.parametrize(
    ("folder", "size", "b_values"),
    [("t1", (128, 128, 96), (0.0,)), ("dwi", (72, 72, 39), (0.0, 2500.0)), ("adc", (72, 72, 39), (0.0,)),
     ("trace", (72, 72, 39), (2500.0,))],
)  # fmt: skip
def test_real_enhanced_siemens(folder: str, size: tuple[int, int, int], b_values: tuple[float, ...]) -> None:
    converted = convert_series(sorted(series.shared("real", "siemens_xa30", folder).iterdir()))
    assert converted.b_values == b_values
    assert converted.volumes[0].geometry.size == size
    assert (converted.adc is not None) == (folder == "adc")


@pytest.mark.parametrize("vendor", list(Vendor))
def test_dicom2nifti_and_simpleitk_see_the_same_in_classic_volumes(tmp_path: Path, vendor: Vendor) -> None:
    scanner = Scanner(vendor, scanner_adc=True)
    for written in all_series(scanner):
        if written.plan.kind is not Kind.DWI:
            files = write_scanned(scanner, written, tmp_path / written.plan.kind)
            ours = by_us(files)
            assert judged(ours, by_dicom2nifti, files) == judged(ours, by_simpleitk, files) == "right"


def test_our_trace_agrees_with_the_scanners() -> None:
    own = convert_series(sorted(series.shared("real", "siemens_xa30", "dwi").iterdir())).volumes[1].array
    scanner = convert_series(sorted(series.shared("real", "siemens_xa30", "trace").iterdir())).volumes[0].array
    signal = scanner > 50
    ratio = float(np.median(own[signal] / scanner[signal]))
    print(f"median ratio of our trace-weighted image to the scanner's: {ratio:.4f}")
    assert abs(ratio - 1) < 0.02
