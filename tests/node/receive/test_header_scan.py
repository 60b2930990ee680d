"""The quick look at a header says what pydicom says of the same bytes, or leaves it to pydicom."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.dsutils import encode

from node.header.instance import HeaderError
from node.receive.header_scan import Identity, identify, identify_with_pydicom, walk
from node.receive.incoming import PREAMBLE, file_meta
from tests.conftest import ROOT
from tests.mr_slices import mr_slice

XA30 = ROOT.parent / "shared" / "data" / "real" / "siemens_xa30"


def file_of(content: bytes, syntax: str) -> tuple[bytes, int]:
    """The data set behind its File Meta Information, and where it begins."""
    head = PREAMBLE + file_meta("1.2.840.10008.5.1.4.1.1.4", "1.2.3", syntax)
    return head + content, len(head)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    return encode(dataset, syntax == ImplicitVRLittleEndian, True, syntax == DeflatedExplicitVRLittleEndian) or b""


def both(content: bytes, syntax: str) -> tuple[Identity | str, Identity | None]:
    """What the reference says (or that it is no instance), and what the walk says."""
    file, start = file_of(content, syntax)
    try:
        reference: Identity | str = identify_with_pydicom(file)
    except HeaderError as error:
        reference = str(error)
    return reference, walk(file, start, syntax)


def with_sequence(defined: bool, depth: int = 1) -> Dataset:
    dataset = mr_slice("t1", 1)
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "one"
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptNameCodeSequence = Sequence([inner])
        outer["ConceptNameCodeSequence"].is_undefined_length = not defined
        outer.is_undefined_length_sequence_item = not defined
        inner = outer
    dataset.AnatomicRegionSequence = Sequence([inner, inner])
    dataset["AnatomicRegionSequence"].is_undefined_length = not defined
    return dataset


KNOWN = [
    (mr_slice("t1", 1), ExplicitVRLittleEndian),
    (mr_slice("t1", 1), ImplicitVRLittleEndian),
    (with_sequence(defined=True), ExplicitVRLittleEndian),
    (with_sequence(defined=False), ExplicitVRLittleEndian),
    (with_sequence(defined=False, depth=4), ImplicitVRLittleEndian),
    (mr_slice("t1", 1, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel längs"), ExplicitVRLittleEndian),
    (mr_slice("t1", 1, SpecificCharacterSet="ISO_IR 192", PatientID="Ω 1"), ImplicitVRLittleEndian),
    (mr_slice("t1", 1, Manufacturer="quarterdose"), ExplicitVRLittleEndian),
    (mr_slice("t1", 1, SeriesNumber=None, AccessionNumber=""), ExplicitVRLittleEndian),
    (mr_slice("t1", 1, Rows=64), ExplicitVRLittleEndian),  # its pixels are too short
]


@pytest.mark.parametrize(("dataset", "syntax"), KNOWN)
def test_the_walk_needs_no_help_with_usual_headers(dataset, syntax):
    reference, walked = both(encoded(dataset, syntax), syntax)
    assert isinstance(reference, Identity)
    assert walked == reference


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_encapsulated_pixels_are_followed_to_their_end(syntax):
    dataset = mr_slice("t1", 1, PixelData=encapsulate([b"1234" * 100, b"5678"]))
    dataset["PixelData"].is_undefined_length = True
    whole = encoded(dataset, syntax)
    assert both(whole, syntax)[1] == both(whole, syntax)[0]
    for cut in (4, 8, 20):
        reference, walked = both(whole[:-cut], syntax)
        assert walked == reference
        assert walked is not None
        assert walked.truncated


@pytest.mark.parametrize(
    ("elements", "syntax"),
    [
        ({"SpecificCharacterSet": "ISO 2022 IR 87", "SeriesDescription": "x"}, ExplicitVRLittleEndian),
        ({}, DeflatedExplicitVRLittleEndian),
        ({"SeriesDescription": ["a", "b"]}, ExplicitVRLittleEndian),
        ({"StudyInstanceUID": "../etc"}, ExplicitVRLittleEndian),
    ],
    ids=["kanji", "deflated", "two values", "no UID"],
)
def test_what_is_unusual_is_left_to_pydicom(elements, syntax):
    content = encoded(mr_slice("t1", 1, **elements), syntax)
    reference, walked = both(content, syntax)
    assert walked is None
    file, start = file_of(content, syntax)
    if isinstance(reference, str):
        with pytest.raises(HeaderError):
            identify(file, start, syntax)
    else:
        assert identify(file, start, syntax) == reference


def test_a_real_enhanced_series_needs_no_help():
    files = sorted(XA30.rglob("*.dcm"))
    assert files, f"the shared data are not at {XA30}"
    for path in files:
        with path.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            start = 144 + int.from_bytes(mapped[140:144], "little")
            walked = walk(mapped, start, ExplicitVRLittleEndian)
            assert walked is not None
            assert walked == identify_with_pydicom(mapped)


TEXTS = st.text(st.characters(codec="latin-1"), max_size=20)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_of_mutated_headers_both_say_the_same(data):
    """Changed bytes, cut ends and odd values: the walk agrees with the reference or does not answer."""
    syntax = data.draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
    dataset = with_sequence(data.draw(st.booleans()), data.draw(st.integers(1, 3)))
    dataset.PixelData = b"\0" * 2048
    dataset.SpecificCharacterSet = data.draw(st.sampled_from(["", "ISO_IR 100", "ISO_IR 6"]))
    if dataset.SpecificCharacterSet == "ISO_IR 100":
        dataset.SeriesDescription = data.draw(TEXTS)
    content = bytearray(encoded(dataset, syntax))
    header = len(content) - 2048
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(1, len(content))))
    reference, walked = both(bytes(content[:cut]), syntax)
    assert walked is None or walked == reference


@pytest.mark.parametrize("nested", [False, True], ids=["of the object", "of contributing equipment"])
def test_a_manufacturer_of_no_value_representation_is_no_mark_of_ours(nested):
    dataset = mr_slice("t1", 1)
    if nested:
        equipment = Dataset()
        equipment.Manufacturer = "SCANNER"
        dataset.ContributingEquipmentSequence = [equipment]
    content = encoded(dataset, ExplicitVRLittleEndian)
    name = b"SCANNER" if nested else b"SIEMENS"
    place = content.index(name) - 4
    assert content[place : place + 2] == b"LO"
    file, start = file_of(content[:place] + b"L\0" + content[place + 2 :], ExplicitVRLittleEndian)
    identity = identify(file, start, ExplicitVRLittleEndian)
    assert not identity.ours
    assert identity.sop_instance_uid == dataset.SOPInstanceUID
