"""The lesion as DICOM Segmentation: on every layout's full-dose series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from simulator.dicom.segmentation import write_segmentation
from simulator.protocol import Kind, examination
from simulator.randomness import stream
from simulator.scanner import Layout, Scanner, Vendor
from simulator.study import write_series
from tests.simulator.dicom.test_layouts import exam_of, small
from tests.simulator.validity import errors

SCANNERS = [Scanner(vendor, layout=layout) for vendor in Vendor for layout in (Layout.CLASSIC, Layout.ENHANCED)]


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: f"{scanner.vendor}-{scanner.layout}")
def test_the_mask_refers_to_the_full_dose_series(scanner: Scanner, tmp_path: Path) -> None:
    plan = next(p for p in examination(scanner, stream(5, "examination")) if p.kind is Kind.FULL_DOSE)
    series = small(plan, scanner)
    exam = exam_of(scanner)
    source = write_series(exam, series, tmp_path)
    mask = np.zeros(series.plan.grid.shape, dtype=bool)
    mask[1:3, 4:7, 5:9] = True
    written = write_segmentation(exam, series.plan, source, mask, tmp_path)
    segmentation = dcmread(written)
    assert errors(written) == []
    assert int(segmentation.pixel_array.sum()) == mask.sum()
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == pytest.approx(series.plan.grid.spacing[:2])
    referenced = {item.ReferencedSOPInstanceUID
                  for item in segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence}  # fmt: skip
    assert referenced <= {dcmread(path).SOPInstanceUID for path in source.glob("*.dcm")}
