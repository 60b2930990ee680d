"""Acquired images against closed-form signals."""

from __future__ import annotations

from simulator.physics import compare, enhancement_share
from simulator.protocol import Kind
from simulator.scanner import Scanner
from simulator.subject import Subject
from simulator.tissue import Tissue


def test_signals_and_adc_are_those_of_the_tissues(subject: Subject) -> None:
    scanner = Scanner(scanner_adc=True, noise=0.01, t1_slice_mm=2.4)
    rows = list(compare(subject, scanner))
    seen = {(row.tissue, row.kind) for row in rows}
    assert {(Tissue.WHITE, Kind.FULL_DOSE), (Tissue.DEEP_GREY, Kind.T1), (Tissue.WHITE, Kind.ADC)} <= seen
    for row in rows:
        # Noise lifts what FLAIR nulls, and diffuses away what hardly remains of CSF at b=1000.
        if not (row.tissue is Tissue.CSF and row.kind in (Kind.FLAIR, Kind.ADC)):
            assert abs(row.error) < 0.05, row
    assert 0.25 < enhancement_share(subject, scanner) < 0.36
