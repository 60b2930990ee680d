"""A written study: what is in it, that readers see the truth in it, that it comes out the same again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from simulator.protocol import Kind, examination
from simulator.randomness import stream
from simulator.study import StudyFiles, write_study
from simulator.subject import Subject
from simulator.tissue import Tissue
from tests.simulator.conftest import SCANNER
from tests.simulator.validity import errors


def test_every_kind_of_file_is_valid(study: StudyFiles) -> None:
    assert study.segmentation is not None
    for folder in (*study.series, study.segmentation):
        files = sorted(folder.glob("*.dcm"))
        assert errors(files[len(files) // 2]) == []


def test_one_patient_one_study_one_frame_of_reference(study: StudyFiles) -> None:
    headers = [dcmread(path, stop_before_pixels=True) for path in study.files]
    assert {h.StudyInstanceUID for h in headers} == {study.study_instance_uid}
    assert {h.FrameOfReferenceUID for h in headers} == {study.frame_of_reference_uid}
    assert {str(h.PatientName) for h in headers} == {study.patient} == {"SIMULATED^PATIENT 0007"}
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert {h.SeriesInstanceUID for h in headers} == set(study.series_instance_uids.values())
    for folder in study.series:
        mine = [h for h in headers if Path(h.filename).parent == folder]
        assert {h.ImagesInAcquisition for h in mine} == {len(mine)}
        assert [h.InstanceNumber for h in mine] == list(range(1, len(mine) + 1))
    starts = [dcmread(sorted(f.glob("*.dcm"))[0], stop_before_pixels=True).AcquisitionTime for f in study.series]
    assert starts == sorted(starts)


def test_the_same_seed_gives_the_same_bytes(study: StudyFiles, subject: Subject, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    heard: list[tuple[str, int, int]] = []
    again = write_study(subject, tmp_path, SCANNER, progress=lambda *said: heard.append(said))
    assert digests(again.folder) == digests(study.folder)
    assert [done for _, done, _ in heard] == list(range(7)) and {total for _, _, total in heard} == {6}
    with pytest.raises(FileExistsError, match="holds a study already"):
        write_study(subject, tmp_path, SCANNER)


def image_of(folder: Path) -> sitk.Image:
    return sitk.ReadImage([str(f) for f in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))])


def test_enhancement_lies_where_the_lesion_is(study: StudyFiles) -> None:
    assert study.lesion is not None
    mask = sitk.ReadImage(str(study.lesion))
    full = image_of(study.full_dose)
    before = sitk.Resample(image_of(study.t1), full)
    inside = sitk.GetArrayFromImage(sitk.Resample(mask, full, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    gain = sitk.GetArrayFromImage(full).astype(float) - sitk.GetArrayFromImage(before)
    assert inside.sum() > 100
    assert np.median(gain[inside]) > 0.15 * np.percentile(sitk.GetArrayFromImage(full), 95)


def test_the_adc_map_holds_the_truth(study: StudyFiles, subject: Subject) -> None:
    assert study.adc is not None
    adc = image_of(study.adc)
    truth = subject.parameters(SCANNER.field_tesla).adc
    for tissue in (Tissue.WHITE, Tissue.NECROSIS):
        where = np.argwhere(subject.tissues == tissue)[::199]
        values = []
        for k, j, i in where:
            index = adc.TransformPhysicalPointToIndex([float(v) for v in subject.grid.point((i, j, k))])
            if all(0 <= n < size for n, size in zip(index, adc.GetSize(), strict=True)):
                values.append(adc[index] * 1e-6)
        expected = float(np.median(truth[subject.tissues == tissue]))
        assert np.median(values) == pytest.approx(expected, rel=0.12), tissue.name


def test_the_segmentation_is_the_nifti_mask(study: StudyFiles) -> None:
    assert study.segmentation is not None and study.lesion is not None
    segmentation = dcmread(study.segmentation / "0001.dcm")
    assert int(segmentation.pixel_array.sum()) == int(np.asanyarray(nib.load(study.lesion).dataobj).sum())
    plan = next(p for p in examination(SCANNER, stream(7, "examination")) if p.kind is Kind.FULL_DOSE)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ nib.load(study.lesion).affine, plan.grid.matrix, atol=1e-4)
    source = {dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in study.full_dose.glob("*.dcm")}
    assert segmentation.FrameOfReferenceUID == study.frame_of_reference_uid
    instances = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    referenced = {instance.ReferencedSOPInstanceUID for instance in instances}
    assert referenced <= source
