"""The table of bad series: each is refused with what is wrong with it, none is converted wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from preprocessing.convert import ConversionError, convert_series
from preprocessing.volume import Geometry
from simulator.dicom import spoil
from simulator.protocol import Kind
from simulator.scanner import Layout, Scanner, Vendor
from tests.preprocessing import series
from tests.simulator.dicom.test_layouts import LAYOUTS, all_series
from tests.simulator.dicom.test_layouts import write as write_scanned

Images = list[Dataset]


def without(images: Images, *slices: int) -> Images:
    return [image for k, image in enumerate(images) if k not in slices]


def changed(images: Images, index: int, **attributes: object) -> Images:
    for name, value in attributes.items():
        setattr(images[index], name, value)
    return images


def removed(images: Images, index: int, name: str) -> Images:
    delattr(images[index], name)
    return images


def shifted(images: Images, index: int, along: tuple[float, float, float]) -> Images:
    """One image moved by ``along`` mm in the image's own axes: row, column, normal."""
    axes = Geometry((1, 1, 1), (0, 0, 0), (1, 1, 1), series.oblique().direction).affine
    offset = (axes @ [*along, 1])[:3]
    old = images[index].ImagePositionPatient
    return changed(images, index, ImagePositionPatient=[float(a) + float(b) for a, b in zip(old, offset, strict=True)])


def sheared(images: Images) -> Images:
    for k in range(len(images)):
        shifted(images, k, (0, 0.4 * k, 0))
    return images


def smaller(images: Images) -> Images:
    return changed(images, 2, Rows=10, PixelData=images[2].PixelData[: 10 * images[2].Columns * 2])


def coloured(images: Images) -> Images:
    return changed(images, 0, SamplesPerPixel=3)


def diffusion(images: Images) -> Images:
    more = series.classic(series.truth(seed=3), first=9)
    for image in images + more:
        series.standard_b(image, 1000 if image.InstanceNumber >= 9 else 0)
    return images + more


def b_missing(images: Images) -> Images:
    return removed(diffusion(images), 3, "DiffusionBValue")


TABLE: list[tuple[str, Callable[[Images], Images], str]] = [
    ("no pixel data", lambda images: removed(images, 1, "PixelData"), "no pixel data"),
    ("no position", lambda images: removed(images, 1, "ImagePositionPatient"), r"Image Position \(Patient\)"),
    ("no orientation", lambda images: removed(images, 1, "ImageOrientationPatient"), r"Image Orientation \(Patient\)"),
    ("no pixel spacing", lambda images: removed(images, 1, "PixelSpacing"), "Pixel Spacing"),
    ("missing slice", lambda images: without(images, 3), "slice number 4 of 8 missing"),
    ("two missing slices", lambda images: without(images, 2, 5), "slices number 3, 6 of 8 missing"),
    ("single slice", lambda images: images[:1], "single slice"),
    ("two orientations", lambda images: changed(images, 4, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
     r"two orientations: 0\.9.*\(\d+\.dcm\) and 1\\0\\0\\0\\0\\-1 \(\d+\.dcm\)"),
    ("duplicate position", lambda images: [*images, series.classic(series.truth())[2]],
     r"duplicate positions: .* both lie at \(.*\) mm"),
    ("uneven spacing", lambda images: shifted(images, 7, (0, 0, 0.8)),
     r"uneven slice spacing, from 2\.500 to 3\.300 mm"),
    ("sheared", sheared, r"sideways by 9\.1° \(gantry tilt"),
    ("one slice aside", lambda images: shifted(images, 3, (4, 0, 0)), "shifted sideways"),
    ("other rows", smaller, "10 × 24 pixels"),
    ("other pixel spacing", lambda images: changed(images, 5, PixelSpacing=[2, 2]), "pixels of"),
    ("truncated pixels", lambda images: changed(images, 2, PixelData=images[2].PixelData[:100]), "unreadable pixel"),
    ("colour", coloured, "colour picture"),
    ("two series", lambda images: changed(images, 2, SeriesInstanceUID="1.2.3"), "SeriesInstanceUID"),
    ("two frames of reference", lambda images: changed(images, 2, FrameOfReferenceUID="1.2.3"), "FrameOfReferenceUID"),
    ("diffusion, slice missing at b=1000", lambda images: without(diffusion(images), 12),
     "b=1000.*(slice number 5 of 8 missing|has 7 slices)"),
    ("diffusion, end slice missing at b=1000", lambda images: without(diffusion(images), 15), "has 7 slices.* 8"),
    ("diffusion, one image twice", lambda images: [*diffusion(images), images[2]],
     r"slice number 3 at \(.*\) mm has 2 images"),
    ("diffusion, b-value missing", b_missing, "carry no b-value"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_series_is_refused_with_its_reason(
    tmp_path: Path, spoil: Callable[[Images], Images], reason: str
) -> None:
    files = series.write(spoil(series.classic(series.truth())), tmp_path)
    with pytest.raises(ConversionError, match=reason):
        convert_series(files)


SCANNED: list[tuple[str, Callable[[Images], Images], str]] = [
    ("middle slice", lambda images: spoil.without_slices(images, 2), "slice number 3 of 5 missing"),
    ("two slices", lambda images: spoil.without_slices(images, 1, 2), "slices number 2, 3 of 5 missing"),
    ("every second", lambda images: spoil.without_slices(images, 1, 3), "has 3 slices, .* 5: .* at equal distances"),
    ("last slice", lambda images: spoil.without_slices(images, -1), "has 4 slices, but .* declares 5: .* cropped"),
    ("first slice", lambda images: spoil.without_slices(images, 0), "has 4 slices, but .* declares 5: .* cropped"),
    ("two orientations", spoil.in_two_orientations, r"two orientations: .* and .*"),
    ("duplicate", lambda images: spoil.with_duplicate(images, 3), r"(at|lie at) \(.*\) mm|duplicate positions"),
    ("uneven", spoil.unevenly_spaced, r"uneven slice spacing, from \d\.\d+ to \d\.\d+ mm"),
    ("tilt", spoil.tilted, r"sideways by 12\.0°"),
]  # fmt: skip


@pytest.mark.parametrize(("vendor", "layout"), LAYOUTS[:-1], ids=["-".join(pair) for pair in LAYOUTS[:-1]])
@pytest.mark.parametrize("kind", [Kind.T1, Kind.FLAIR, Kind.DWI, Kind.ADC])
def test_what_each_scanner_writes_is_refused_when_spoiled(
    tmp_path: Path, vendor: Vendor, layout: Layout, kind: Kind
) -> None:
    scanner = Scanner(vendor, layout=layout, scanner_adc=True)
    written = next(one for one in all_series(scanner) if one.plan.kind is kind)
    files = write_scanned(scanner, written, tmp_path / "sound")
    assert len(convert_series(files).volumes) == len(written.pixels)
    for number, (_, spoiled, reason) in enumerate(SCANNED):
        images = spoiled([dcmread(file) for file in files])
        with pytest.raises(ConversionError, match=reason):
            convert_series(series.write(images, tmp_path / str(number)))


@pytest.mark.parametrize("vendor", [Vendor.SIEMENS, Vendor.GE, Vendor.PHILIPS])
def test_each_vendors_own_count_of_slices_is_enough(tmp_path: Path, vendor: Vendor) -> None:
    scanner = Scanner(vendor)
    for number, written in enumerate(all_series(scanner)):
        images = [dcmread(file) for file in write_scanned(scanner, written, tmp_path / f"{number} sound")]
        for image in images:
            del image.ImagesInAcquisition
        with pytest.raises(ConversionError, match="cropped at an end"):
            convert_series(series.write(spoil.without_slices(images, -1), tmp_path / str(number)))


def test_a_series_that_was_reformatted_keeps_the_count_of_its_source(tmp_path: Path) -> None:
    images = series.classic(series.truth())
    for image in images:
        image.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]
        image.ImagesInAcquisition = 176
    assert convert_series(series.write(images, tmp_path)).volumes[0].geometry.size[2] == 8


def test_a_lost_volume_of_an_xa_series(tmp_path: Path) -> None:
    scanner = Scanner(layout=Layout.ENHANCED, directions=3)
    written = next(one for one in all_series(scanner) if one.plan.kind is Kind.DWI)
    files = write_scanned(scanner, written, tmp_path)
    with pytest.raises(ConversionError, match=r"has 3 volumes, but Number of Temporal Positions .* declares 4"):
        convert_series(files[1:])


@pytest.mark.parametrize("lost", [0, 38])
def test_a_real_xa_series_cropped_at_an_end(tmp_path: Path, lost: int) -> None:
    images = [dcmread(file) for file in sorted(series.shared("real", "siemens_xa30", "trace").iterdir())]
    with pytest.raises(ConversionError, match=r"has 38 slices, but .*\(0021,118E\) declares 39"):
        convert_series(series.write(spoil.without_slices(images, lost), tmp_path))


def test_enhanced_image_with_a_missing_frame(tmp_path: Path) -> None:
    dataset = series.enhanced(series.truth())
    del dataset.PerFrameFunctionalGroupsSequence[3]
    with pytest.raises(ConversionError, match="declares 8 frames and describes 7"):
        convert_series(series.write([dataset], tmp_path))


def test_mosaic_without_its_number_of_slices(tmp_path: Path) -> None:
    dataset = series.mosaic(series.truth())
    dataset.private_block(0x19, "SIEMENS MR HEADER").__delitem__(0x0A)
    with pytest.raises(ConversionError, match="number of slices"):
        convert_series(series.write([dataset], tmp_path))


@pytest.mark.parametrize("keep", [3, 200, 0.5, 0.95])
def test_file_cut_short(tmp_path: Path, keep: float) -> None:
    files = series.write(series.classic(series.truth()), tmp_path)
    whole = files[3].read_bytes()
    files[3].write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    with pytest.raises(ConversionError, match=files[3].name):
        convert_series(files)


def test_file_that_is_not_dicom(tmp_path: Path) -> None:
    files = series.write(series.classic(series.truth()), tmp_path)
    files[0].write_text("a letter to the radiologist, long enough to have a preamble" * 10)
    with pytest.raises(ConversionError, match="not a DICOM file"):
        convert_series(files)


def test_no_files() -> None:
    with pytest.raises(ConversionError, match="no files"):
        convert_series([])
