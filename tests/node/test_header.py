"""The header scan: vendors, layouts, encodings, and what is not an instance."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
)

from node.header.instance import HeaderError, InstanceHeader, scan


def classic(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.Modality, dataset.Manufacturer = "MR", "SIEMENS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.SamplesPerPixel, dataset.PixelRepresentation = 15, 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelSpacing, dataset.SliceThickness = [1.0, 1.0], 3.0
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-100, -100, 30.5]
    dataset.RepetitionTime, dataset.EchoTime, dataset.FlipAngle = 2300, 2.98, 9
    dataset.PixelData = np.zeros((8, 8), np.uint16).tobytes()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    file = FileDataset(None, dataset, file_meta=meta, preamble=b"\0" * 128)
    target = BytesIO()
    file.save_as(target, enforce_file_format=False, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return target.getvalue()


def seen(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> InstanceHeader:
    return scan(BytesIO(written(dataset, syntax)))


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_classic_slice_is_read_in_every_encoding(syntax: str) -> None:
    header = seen(classic(AcquisitionDate="20260102", AcquisitionTime="101112.5", SeriesNumber=4), syntax)
    assert (header.tr_ms, header.te_ms, header.flip_deg) == (2300, 2.98, 9)
    assert header.slice_positions == (30.5,)
    assert header.acquired == "2026-01-02T10:11:12.500000"
    assert header.series_number == 4
    assert header.has_pixel_data and not header.truncated and not header.ours


PRIVATE_B = [
    ("SIEMENS", 0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "1000", 1000),
    ("GE MEDICAL SYSTEMS", 0x0043, "GEMS_PARM_01", 0x39, "IS", ["1000001000", "8", "0", "0"], 1000),
    ("GE MEDICAL SYSTEMS", 0x0043, "GEMS_PARM_01", 0x39, "IS", ["800", "8", "0", "0"], 800),
    ("Philips Medical Systems", 0x2001, "Philips Imaging DD 001", 0x03, "FL", 1000.0, 1000),
    ("UIH", 0x0065, "Image Private Header", 0x09, "FD", 700.0, 700),
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("manufacturer", "group", "creator", "offset", "vr", "value", "b"), PRIVATE_B)
def test_private_b_values(
    manufacturer: str, group: int, creator: str, offset: int, vr: str, value: object, b: float, syntax: str
) -> None:
    dataset = classic(Manufacturer=manufacturer)
    dataset.private_block(group, creator, create=True).add_new(offset, vr, value)
    assert seen(dataset, syntax).b_values == (b,)


@pytest.mark.parametrize(
    ("group", "creator", "offset", "raw", "b"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, b"1000", 1000),
        (0x0043, "GEMS_PARM_01", 0x39, b"1000001000\\8\\0\\0 ", 1000),
        (0x2001, "Philips Imaging DD 001", 0x03, np.float32(1000).tobytes(), 1000),
        (0x0065, "Image Private Header", 0x09, np.float64(700).tobytes(), 700),
    ],
)
def test_private_b_values_that_came_as_unknown_bytes(
    group: int, creator: str, offset: int, raw: bytes, b: float
) -> None:
    dataset = classic()
    dataset.private_block(group, creator, create=True).add_new(offset, "UN", raw)
    assert seen(dataset).b_values == (b,)


def test_the_private_block_is_found_where_the_creator_reserved_it() -> None:
    dataset = classic(Manufacturer="GE MEDICAL SYSTEMS")
    dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x0C, "DS", "77")
    assert seen(dataset).b_values == ()
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "500")
    assert seen(dataset).b_values == (500,)


def test_the_standard_b_value_is_believed_first() -> None:
    dataset = classic()
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "500")
    item = Dataset()
    item.DiffusionBValue = 900.0
    dataset.MRDiffusionSequence = Sequence([item])
    assert seen(dataset).b_values == (900,)
    dataset.DiffusionBValue = 1000.0
    assert seen(dataset).b_values == (1000,)
    del dataset.DiffusionBValue
    item.__delattr__("DiffusionBValue")
    item.DiffusionDirectionality = "NONE"
    assert seen(dataset).b_values == (0,)


@pytest.mark.parametrize("in_csa", [False, True])
def test_a_mosaic_is_taken_apart(in_csa: bool) -> None:
    dataset = classic(
        ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "MOSAIC"], SpacingBetweenSlices=4.0, Rows=24, Columns=24,
        PixelData=bytes(24 * 24 * 2),
    )  # fmt: skip
    if in_csa:
        name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
        tag = name + np.array([1, 0, 6, 6, 77, 3, 3, 77, 3], "<i4").tobytes()  # five of the tag, four of its item
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"SV10" + tag + b"7\0\0\0")
    else:
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 7)
    header = seen(dataset)
    assert (header.frames, header.rows, header.columns) == (7, 8, 8)
    assert header.slice_positions == tuple(30.5 + 4 * k for k in range(7))


def enhanced(frames: int = 6, b_values: tuple[float, ...] = (0.0,)) -> Dataset:
    dataset = classic(SOPClassUID=EnhancedMRImageStorage, Manufacturer="Philips Medical Systems")
    for keyword in ("RepetitionTime", "EchoTime", "FlipAngle", "PixelSpacing", "SliceThickness",
                    "ImageOrientationPatient", "ImagePositionPatient"):  # fmt: skip
        delattr(dataset, keyword)
    dataset.NumberOfFrames = frames * len(b_values)
    dataset.PixelData = bytes(8 * 8 * 2 * frames * len(b_values))
    dataset.EchoPulseSequence, dataset.EchoPlanarPulseSequence = "SPIN", "YES"
    shared = Dataset()
    timing, measures, orientation = Dataset(), Dataset(), Dataset()
    timing.RepetitionTime, timing.FlipAngle, timing.RFEchoTrainLength = 4000, 90, 1
    measures.PixelSpacing, measures.SliceThickness = [2, 2], 4
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    modifier = Dataset()
    modifier.InversionRecovery, modifier.InversionTimes = "YES", [2500.0]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.MRModifierSequence = [modifier]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(-5.0 * k, b) for b in b_values for k in range(frames)
    ]  # fmt: skip
    return dataset


def _frame(x: float, b: float) -> Dataset:
    frame, place, echo, diffusion = Dataset(), Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [x, 10, 20]
    echo.EffectiveEchoTime = 80.0
    diffusion.DiffusionBValue = b
    frame.PlanePositionSequence, frame.MREchoSequence, frame.MRDiffusionSequence = [place], [echo], [diffusion]
    return frame


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_enhanced_instance_is_read_frame_by_frame(syntax: str) -> None:
    header = seen(enhanced(6, (0.0, 1000.0)), syntax)
    assert (header.tr_ms, header.te_ms, header.ti_ms, header.flip_deg) == (4000, 80, 2500, 90)
    assert header.scanning_sequence == ("SE", "EP", "IR")
    assert header.b_values == (0, 1000)
    assert [stack.count for stack in header.stacks] == [6, 6]
    assert header.stacks[0].positions == (0, 5, 10, 15, 20, 25)
    assert header.pixel_spacing == (2, 2) and header.slice_thickness == 4


def test_enhanced_contrast_counts_only_what_was_administered() -> None:
    dataset = enhanced()
    dataset.PatientWeight = 80
    agents = []
    for number, volume in ((1, 4.0), (2, 12.0)):
        agent = Dataset()
        agent.ContrastBolusAgentNumber, agent.ContrastBolusVolume, agent.CodeMeaning = number, volume, "gadoterate"
        agents.append(agent)
    dataset.ContrastBolusAgentSequence = agents
    usage = []
    for number, answer in ((1, "YES"), (2, "NO")):
        item = Dataset()
        item.ContrastBolusAgentNumber, item.ContrastBolusAgentAdministered = number, answer
        usage.append(item)
    dataset.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence = usage
    header = seen(dataset)
    assert header.contrast_administered is True
    assert header.dose_mmol_kg == pytest.approx(0.025)
    assert header.contrast_injections == 1


def test_the_last_injection_of_an_enhanced_image_is_when_contrast_was_given() -> None:
    dataset = enhanced()
    dataset.ContrastBolusAgentSequence = []
    for number, time in ((1, "101500"), (2, "102500")):
        agent, profile = Dataset(), Dataset()
        profile.ContrastBolusStartTime = time
        agent.ContrastBolusAgentNumber, agent.ContrastAdministrationProfileSequence = number, [profile]
        dataset.ContrastBolusAgentSequence.append(agent)
    header = seen(dataset)
    assert (header.contrast_start, header.contrast_injections) == ("102500", 2)


@pytest.mark.parametrize(
    ("volume", "total", "injections"), [(11.25, 15.0, 2), (15.0, 15.0, 1), (15.0, None, None), (None, 15.0, None)]
)
def test_a_total_above_the_volume_tells_of_an_earlier_injection(
    volume: float | None, total: float | None, injections: int | None
) -> None:
    given = {"ContrastBolusVolume": volume, "ContrastBolusTotalDose": total}
    header = seen(classic(**{keyword: value for keyword, value in given.items() if value is not None}))
    assert header.contrast_injections == injections


@pytest.mark.parametrize(
    ("agent", "volume", "total", "concentration", "weight", "dose"),
    [
        ("Dotarem", 3.75, None, None, 75, 0.025),
        ("Gadovist", 7.5, None, 604.72, 75, 0.1),
        ("GADAVIST", 7.5, None, 1.0, 75, 0.1),
        ("Dotarem", None, 15, 279.32, 75, 0.1),
        ("Clariscan", 20.0, 15, 376.9, 75, 0.1),
        ("unknown agent", 15, None, 0.5, 75, 0.1),
        ("unknown agent", 15, None, 279.3, 75, None),
        ("Dotarem", 15, None, None, None, None),
        ("Dotarem 0.025 mmol/kg", None, None, None, None, 0.025),
        ("Dotarem", 0, None, None, 75, 0.0),
    ],
)
def test_the_dose_follows_from_what_is_written(
    agent: str, volume: float, total: float, concentration: float, weight: float, dose: float | None
) -> None:
    given = {
        "ContrastBolusAgent": agent, "ContrastBolusVolume": volume, "ContrastBolusTotalDose": total,
        "ContrastBolusIngredientConcentration": concentration, "PatientWeight": weight,
    }  # fmt: skip
    header = seen(classic(**{keyword: value for keyword, value in given.items() if value is not None}))
    assert header.dose_mmol_kg == (None if dose is None else pytest.approx(dose, rel=1e-3))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"StudyInstanceUID": "../../etc/passwd"}, "Study Instance UID '../../etc/passwd' is not a UID"),
        ({"SeriesInstanceUID": "1.2/3"}, "Series Instance UID"),
        ({"SOPInstanceUID": "1." * 32 + "1"}, "SOP Instance UID"),
        ({"SOPInstanceUID": ""}, "SOP Instance UID is missing"),
        ({"SOPClassUID": "1..2"}, "SOP Class UID"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_invalid_uids_are_refused(values: dict[str, str], words: str) -> None:
    with pytest.raises(HeaderError, match="UID") as caught:
        seen(classic(**values))
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 200, b"\0" * 128 + b"DICM"])
def test_what_is_no_instance_is_refused(content: bytes) -> None:
    with pytest.raises(HeaderError):
        scan(BytesIO(content))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_cut_file_is_never_taken_for_a_whole_one(syntax: str) -> None:
    content = written(classic(), syntax)
    for length in range(len(content) - 1):  # the last byte may be mere padding of a deflated stream
        try:
            header = scan(BytesIO(content[:length]))
        except HeaderError:
            continue
        # What is left ends exactly between two elements: a file without pixel data, or with some of them.
        assert header.truncated or not header.has_pixel_data


def test_cut_fragments_and_short_pixels_are_seen() -> None:
    dataset = classic(PixelData=encapsulate([b"\1\2" * 40]))
    dataset["PixelData"].is_undefined_length = True
    content = written(dataset, JPEGLSLossless)
    assert not scan(BytesIO(content)).truncated
    assert scan(BytesIO(content[:-8])).truncated
    assert scan(BytesIO(content[:-30])).truncated
    assert seen(classic(Rows=16)).truncated


def test_a_malformed_value_costs_the_value_not_the_instance() -> None:
    content = written(classic(EchoTime="2.98"))
    header = scan(BytesIO(content.replace(b"2.98", b"2,9x")))
    assert header.te_ms is None
    assert header.unreadable == ("EchoTime",)
    assert header.tr_ms == 2300


def test_a_value_of_a_wrong_length_costs_the_value_not_the_instance() -> None:
    content, rows = written(classic()), struct.pack("<HH2sH", 0x28, 0x10, b"US", 2)
    at = content.index(rows)
    wrong = content[:at] + rows[:-2] + struct.pack("<H", 3) + b"\4\0\0" + content[at + len(rows) + 2 :]
    header = scan(BytesIO(wrong))
    assert "Rows" in header.unreadable
    assert header.te_ms is not None


def test_our_own_series_are_known() -> None:
    assert seen(classic(Manufacturer="Quarterdose")).ours
