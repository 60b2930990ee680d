"""The figures of Bône et al. (ISBI 2021), to stand beside ours."""

from __future__ import annotations

from preprocessing.volume import Role

_LOW, _T1, _ADC, _FLAIR = Role.LOW_DOSE, Role.T1, Role.ADC, Role.FLAIR

TABLE_1: dict[frozenset[Role], tuple[str, str, str, str]] = {
    frozenset({_LOW, _T1, _ADC, _FLAIR}): ("31.6 (11.4)", "74.4 (80.2)", "35.3 (1.52)", "94.2 (1.31)"),
    frozenset({_T1, _ADC, _FLAIR}): ("65.3 (30.9)", "263. (185.)", "32.2 (1.69)", "91.6 (2.00)"),
    frozenset({_LOW, _ADC, _FLAIR}): ("34.0 (13.2)", "129. (99.5)", "35.0 (1.54)", "94.0 (1.29)"),
    frozenset({_LOW, _T1, _FLAIR}): ("32.2 (12.0)", "84.1 (86.8)", "35.2 (1.56)", "94.1 (1.32)"),
    frozenset({_LOW, _T1, _ADC}): ("32.0 (12.2)", "79.9 (83.8)", "35.2 (1.55)", "94.2 (1.33)"),
    frozenset({_T1, _ADC}): ("66.9 (30.9)", "264. (190.)", "32.1 (1.68)", "91.5 (2.01)"),
    frozenset({_LOW, _ADC}): ("33.9 (13.0)", "133. (102.)", "35.0 (1.56)", "94.1 (1.31)"),
    frozenset({_LOW, _T1}): ("31.3 (11.5)", "87.1 (87.8)", "35.3 (1.54)", "94.2 (1.31)"),
    frozenset({_T1}): ("65.7 (30.8)", "260. (186.)", "32.2 (1.71)", "91.6 (1.99)"),
    frozenset({_LOW}): ("36.9 (14.3)", "137. (106.)", "34.6 (1.59)", "93.8 (1.32)"),
}
"""Inputs to L2 (1e-5), t-L2 (1e-4), PSNR (dB) and SSIM (%) as printed in Table 1, C = 16, F = 100 %."""

AT_DOUBLE = {"PSNR (dB)": "below 36.1", "SSIM (%)": "below 94.6"}
"""What section 3 submits for F = 200 %; of L2 it says nothing, and t-L2 "does not exhibit clear signs of
saturation"."""
