"""The derived objects against the standard's checker, the sources' geometry, and three independent readers."""

from __future__ import annotations

import datetime
import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from node.derive.capture import burn_in
from node.derive.series import KINDS, DerivedSeries, Provenance, derive, is_ours
from preprocessing.volume import Geometry, Role, Volume
from tests.node.derived_sources import (
    FRAME_OF_REFERENCE,
    NAME,
    STUDY,
    oblique_geometry,
    virtual_volume,
    write_classic,
    write_enhanced,
)

PROVENANCE = Provenance(
    "quarterdose-unet 1", "a1" * 32, "0.1.0", "b2" * 32, (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE),
    datetime.datetime(2026, 1, 2, 11, 30),
)
WRITERS = {"classic": write_classic, "enhanced": write_enhanced}
SOURCES = pytest.mark.parametrize("layout", WRITERS)


def make(tmp_path: Path, layout: str = "classic", **changes: object) -> dict[str, Dataset]:
    """Both kinds, by kind, from a fresh source of the layout."""
    geometry = oblique_geometry()
    sources = WRITERS[layout](tmp_path / layout, geometry)
    other = write_classic(tmp_path / "t1", geometry, name="t1")
    provenance = replace(PROVENANCE, **changes)  # type: ignore[arg-type]
    series = derive(virtual_volume(geometry), sources, {Role.T1: other[:3]}, provenance, KINDS)
    return {one.kind: one.datasets[0] for one in series}


def errors_of_checker(dataset: Dataset, tmp_path: Path) -> list[str]:
    """What ``dciodvfy`` calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.fail("dciodvfy is missing: install the Debian package dicom3tools")
    path = tmp_path / "checked.dcm"
    dataset.save_as(path, enforce_file_format=True)
    result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("Error")]
    return lines or ([f"exit status {result.returncode}"] if result.returncode else [])


@SOURCES
@pytest.mark.parametrize("kind", KINDS)
def test_the_standard_s_checker_finds_no_error(tmp_path: Path, layout: str, kind: str) -> None:
    assert errors_of_checker(make(tmp_path, layout)[kind], tmp_path) == []


def test_a_source_that_says_little_still_gives_a_valid_object(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    sources = write_classic(
        tmp_path, geometry, ContrastBolusAgent=None, RepetitionTime=None, EchoTime=None, InversionTime=None,
        SliceThickness=None, Manufacturer=None, PatientName=None, ReferringPhysicianName=None, SeriesNumber=None,
        NumberOfAverages=None,
    )
    for series in derive(virtual_volume(geometry), sources, {}, PROVENANCE, KINDS):
        assert errors_of_checker(series.datasets[0], tmp_path) == []


@SOURCES
@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_lies_where_its_source_frame_lies(tmp_path: Path, layout: str, kind: str) -> None:
    dataset = make(tmp_path, layout)[kind]
    assert dataset.FrameOfReferenceUID == FRAME_OF_REFERENCE
    assert dataset.StudyInstanceUID == STUDY
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.9375, 0.9375]
    assert shared.PixelMeasuresSequence[0].SliceThickness == 3
    positions = source_positions(tmp_path / layout)
    assert len(dataset.PerFrameFunctionalGroupsSequence) == len(positions) == 10
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        source = (image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1))
        position, orientation = positions[source]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == position
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == orientation


def source_positions(folder: Path) -> dict[tuple[str, int], tuple[list[float], list[float]]]:
    """Position and orientation of each (instance, frame) as the source files say."""
    found = {}
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        if dataset.SOPClassUID != EnhancedMRImageStorage:
            found[dataset.SOPInstanceUID, 1] = (dataset.ImagePositionPatient, dataset.ImageOrientationPatient)
            continue
        orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
        for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
            position = groups.PlanePositionSequence[0].ImagePositionPatient
            found[dataset.SOPInstanceUID, number] = (position, orientation)
    return found


@SOURCES
def test_pydicom_simpleitk_and_highdicom_read_the_same_signal(tmp_path: Path, layout: str) -> None:
    dataset = make(tmp_path, layout)["enhanced_mr"]
    path = tmp_path / "enhanced.dcm"
    dataset.save_as(path, enforce_file_format=True)
    expected = virtual_volume(oblique_geometry())
    transformation = dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    tolerance = 0.51 * float(transformation.RescaleSlope)
    assert tolerance < 0.52  # of a signal of about 1400

    by_pydicom = pydicom.dcmread(path).pixel_array * float(transformation.RescaleSlope)
    image = sitk.ReadImage(str(path))
    by_highdicom = hd.imread(path).get_volume()

    for array in (by_pydicom, sitk.GetArrayFromImage(image)):
        np.testing.assert_allclose(array, expected.array, atol=tolerance)
    np.testing.assert_allclose(image.GetOrigin(), expected.geometry.origin, atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing(), expected.geometry.spacing, atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), expected.geometry.direction, atol=1e-6)
    corner = by_highdicom.map_indices_to_reference(np.array([[0, 0, 0]]))[0]
    index = np.rint(np.linalg.inv(expected.geometry.affine) @ [*corner, 1])[:3].astype(int)
    assert index[0] == index[1] == 0
    order = slice(None) if index[2] == 0 else slice(None, None, -1)
    np.testing.assert_allclose(by_highdicom.array[order], expected.array, atol=tolerance)


def test_the_window_shows_the_brain_and_whitens_the_brightest_spot(tmp_path: Path) -> None:
    objects = make(tmp_path)
    signal = virtual_volume(oblique_geometry()).array
    brain = signal[signal > 0]
    enhanced = objects["enhanced_mr"].SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    for voi in (enhanced, objects["secondary_capture"]):
        low, high = voi.WindowCenter - voi.WindowWidth / 2, voi.WindowCenter + voi.WindowWidth / 2
        assert 0 < low < np.percentile(brain, 5)
        assert np.percentile(brain, 99) < high <= brain.max() + 1


def test_secondary_capture_keeps_the_signal_outside_its_label(tmp_path: Path) -> None:
    dataset = make(tmp_path)["secondary_capture"]
    array = pydicom.dcmread(saved(dataset, tmp_path)).pixel_array
    expected = virtual_volume(oblique_geometry()).array
    np.testing.assert_allclose(array[:, 14:, :], expected[:, 14:, :], atol=0.51)


def test_the_label_is_burned_into_every_frame_on_black() -> None:
    frames = burn_in(np.full((3, 128, 112), 700, np.uint16))
    label = frames[:, :14, :50]
    assert (label == label[:1]).all()
    assert {0, 700} <= set(np.unique(label))
    ink = (label[0] == 700).mean()
    assert 0.1 < ink < 0.9
    assert (frames[:, 20:] == 700).all()


def test_a_frame_too_small_for_the_label_is_refused() -> None:
    with pytest.raises(ValueError, match="too small for the label"):
        burn_in(np.zeros((1, 16, 16), np.uint16))


def test_a_faint_signal_keeps_its_grey_levels(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    sources = write_classic(tmp_path, geometry)
    virtual = virtual_volume(geometry, highest=0.8)
    for series in derive(virtual, sources, {}, PROVENANCE, KINDS):
        assert np.unique(series.datasets[0].pixel_array).size > 1000
        assert errors_of_checker(series.datasets[0], tmp_path) == []
    enhanced = derive(virtual, sources, {}, PROVENANCE, ["enhanced_mr"])[0].datasets[0]
    image = sitk.ReadImage(str(saved(enhanced, tmp_path)))
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), virtual.array, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_same_inputs_same_bytes_and_another_model_another_series(tmp_path: Path, kind: str) -> None:
    first, again = make(tmp_path / "a")[kind], make(tmp_path / "b")[kind]
    assert encoded(first) == encoded(again)
    other = make(tmp_path / "c", model_digest="c3" * 32)[kind]
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID != first.SeriesInstanceUID
    assert first.SOPInstanceUID.startswith("2.25.")


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    sources = write_classic(tmp_path, geometry)
    virtual = virtual_volume(geometry)
    forward, backward = (
        derive(virtual, paths, {Role.T1: paths}, PROVENANCE, KINDS) for paths in (sources, sources[::-1])
    )
    for one, other in zip(forward, backward, strict=True):
        assert encoded(one.datasets[0]) == encoded(other.datasets[0])


@pytest.mark.parametrize(
    "turn",
    [
        lambda image: image[::-1, :, :],
        lambda image: image[:, ::-1, ::-1],
        lambda image: sitk.PermuteAxes(image, (2, 0, 1)),
    ],
    ids=["i flipped", "j and k flipped", "axes permuted"],
)
def test_a_converter_s_axis_order_is_undone(tmp_path: Path, turn: Callable[[sitk.Image], sitk.Image]) -> None:
    geometry = oblique_geometry()
    virtual = virtual_volume(geometry)
    image = sitk.GetImageFromArray(virtual.array)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    turned = turn(image)
    grid = Geometry(turned.GetSize(), turned.GetOrigin(), turned.GetSpacing(), turned.GetDirection())
    moved = Volume(sitk.GetArrayFromImage(turned), grid)
    sources = write_classic(tmp_path, geometry)
    results = [derive(one, sources, {}, PROVENANCE, ["enhanced_mr"])[0] for one in (virtual, moved)]
    assert encoded(results[0].datasets[0]) == encoded(results[1].datasets[0])


def test_nobody_takes_it_for_an_acquired_series(tmp_path: Path) -> None:
    objects = make(tmp_path)
    for dataset in objects.values():
        assert dataset.ImageType[0] == "DERIVED"
        assert dataset.SeriesDescription == "VIRTUAL full-dose T1ce (Quarterdose)"
        assert dataset.ContentQualification == "RESEARCH"
        assert PROVENANCE.model_digest in dataset.ImageComments
        assert "not acquired" in dataset.ImageComments
        assert [item.Manufacturer for item in dataset.ContributingEquipmentSequence] == ["SIEMENS", "Quarterdose"]
        referenced = {item.SeriesInstanceUID: len(item.ReferencedInstanceSequence)
                      for item in dataset.ReferencedSeriesSequence}
        assert sorted(referenced.values()) == [3, 10]
    assert all("VIRTUAL" in dataset.ImageType for dataset in objects.values())
    assert objects["enhanced_mr"].BurnedInAnnotation == "NO"
    assert objects["secondary_capture"].BurnedInAnnotation == "YES"
    assert objects["secondary_capture"].ConversionType == "SYN"


def test_the_injection_reported_is_the_one_that_was_given(tmp_path: Path) -> None:
    agent = make(tmp_path)["enhanced_mr"].ContrastBolusAgentSequence[0]
    assert agent.CodeMeaning == "Gadoterate meglumine"
    assert agent.ContrastBolusVolume == 3.5


def test_an_agent_given_as_a_code_alone_is_completed(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    agent = Dataset()
    agent.CodeValue, agent.CodingSchemeDesignator, agent.CodeMeaning = "407976008", "SCT", "Gadobutrol"
    sources = write_classic(tmp_path, geometry, ContrastBolusAgentSequence=[agent])
    dataset = derive(virtual_volume(geometry), sources, {}, PROVENANCE, ["enhanced_mr"])[0].datasets[0]
    assert dataset.ContrastBolusAgentSequence[0].CodeMeaning == "Gadobutrol"
    assert dataset.ContrastBolusAgentSequence[0].ContrastBolusVolume == 3.5
    assert errors_of_checker(dataset, tmp_path) == []


@SOURCES
def test_the_acquisition_is_carried_over(tmp_path: Path, layout: str) -> None:
    dataset = make(tmp_path, layout)["enhanced_mr"]
    assert (dataset.RepetitionTime, dataset.InversionTime, dataset.FlipAngle) == (2300, 900, 9)
    assert dataset.SharedFunctionalGroupsSequence[0].MREchoSequence[0].EffectiveEchoTime == 2.98
    assert dataset.MagneticFieldStrength == 3
    assert dataset.AcquisitionDateTime == "20260102101500"


@pytest.mark.parametrize("offset,content_time", [("+0200", "133000"), ("-0530", "060000"), (None, "113000")])
def test_the_time_is_of_the_study_s_own_clock(tmp_path: Path, offset: str | None, content_time: str) -> None:
    geometry = oblique_geometry()
    sources = write_classic(tmp_path, geometry, TimezoneOffsetFromUTC=offset)
    provenance = replace(PROVENANCE, created=PROVENANCE.created.replace(tzinfo=datetime.UTC))
    dataset = derive(virtual_volume(geometry), sources, {}, provenance, ["enhanced_mr"])[0].datasets[0]
    assert dataset.ContentTime == f"{content_time}.000000"
    assert dataset.ContributingEquipmentSequence[1].ContributionDateTime == f"20260102{content_time}.000000"


def test_lossy_once_lossy_for_ever(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    sources = write_classic(
        tmp_path, geometry, LossyImageCompression="01", LossyImageCompressionRatio="8",
        LossyImageCompressionMethod="ISO_15444_1",
    )
    for series in derive(virtual_volume(geometry), sources, {}, PROVENANCE, KINDS):
        assert series.datasets[0].LossyImageCompression == "01"
        assert series.datasets[0].LossyImageCompressionRatio == 8
        assert errors_of_checker(series.datasets[0], tmp_path) == []


@pytest.mark.parametrize("character_set,name", [
    ("ISO_IR 100", NAME),
    ("ISO_IR 192", "Nguyễn^Thị Minh"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO_IR 144", "Люкceмбypг"),
])
def test_names_survive_in_their_character_set(tmp_path: Path, character_set: str | list[str], name: str) -> None:
    geometry = oblique_geometry()
    sources = write_classic(
        tmp_path / "source", geometry, SpecificCharacterSet=character_set, PatientName=name, StudyDescription="MR",
        ReferringPhysicianName="",
    )
    for series in derive(virtual_volume(geometry), sources, {}, PROVENANCE, KINDS):
        again = pydicom.dcmread(saved(series.datasets[0], tmp_path))
        assert again.PatientName == name
        assert again.SpecificCharacterSet == character_set


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_objects_are_recognised_by_any_of_their_marks(tmp_path: Path, kind: str) -> None:
    dataset = pydicom.dcmread(saved(make(tmp_path)[kind], tmp_path))
    assert is_ours(dataset)
    dataset.Manufacturer = "PACS Inc."
    assert is_ours(dataset)
    dataset.remove_private_tags()
    assert is_ours(dataset)
    del dataset.ContributingEquipmentSequence
    assert not is_ours(dataset)
    assert is_ours({"Manufacturer": "Quarterdose"})
    assert not is_ours({"Manufacturer": "SIEMENS", "SeriesDescription": "VIRTUAL"})
    assert not is_ours(pydicom.dcmread(next((tmp_path / "classic").glob("*.dcm"))))


@pytest.mark.parametrize("change,message", [
    ({"origin": (-98.5, -120.25, -30.125)}, "does not lie on the virtual volume's grid"),
    ({"size": (56, 64, 9)}, r"\(9, 64, 56\)"),
    ({"direction": (1.0, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8)}, "grid|axes"),
])
def test_a_volume_that_lies_elsewhere_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    geometry = oblique_geometry()
    elsewhere = virtual_volume(replace(geometry, **change))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        derive(elsewhere, write_classic(tmp_path, geometry), {}, PROVENANCE, ["enhanced_mr"])


def test_what_cannot_be_derived_is_said(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    virtual = virtual_volume(geometry)
    sources = write_classic(tmp_path / "one", geometry)
    with pytest.raises(ValueError, match="unknown kind of derived series 'pdf'"):
        derive(virtual, sources, {}, PROVENANCE, ["pdf"])
    with pytest.raises(ValueError, match="one series, got 0"):
        derive(virtual, [], {}, PROVENANCE, KINDS)
    with pytest.raises(ValueError, match="no Frame of Reference"):
        derive(virtual, write_classic(tmp_path / "two", geometry, FrameOfReferenceUID=None), {}, PROVENANCE, KINDS)
    with pytest.raises(ValueError, match="no valid Image Position"):
        derive(virtual, write_classic(tmp_path / "three", geometry, ImagePositionPatient=None), {}, PROVENANCE, KINDS)
    with pytest.raises(ValueError, match="same plane"):
        derive(virtual, [*sources, sources[0]], {}, PROVENANCE, KINDS)
    with pytest.raises(ValueError, match="not finite"):
        derive(virtual.with_array(virtual.array * np.nan), sources, {}, PROVENANCE, KINDS)
    with pytest.raises(ValueError, match="model_digest must be 64"):
        replace(PROVENANCE, model_digest="abc")


def test_series_announce_their_kind_and_uid(tmp_path: Path) -> None:
    geometry = oblique_geometry()
    series = derive(virtual_volume(geometry), write_classic(tmp_path, geometry), {}, PROVENANCE, KINDS)
    assert [type(one) for one in series] == [DerivedSeries, DerivedSeries]
    assert [one.kind for one in series] == list(KINDS)
    for one in series:
        assert {dataset.SeriesInstanceUID for dataset in one.datasets} == {one.series_instance_uid}
        assert all(dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian for dataset in one.datasets)


def encoded(dataset: Dataset) -> bytes:
    """The bytes of the file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def saved(dataset: Dataset, folder: Path) -> Path:
    """The dataset as a file of the folder."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path
