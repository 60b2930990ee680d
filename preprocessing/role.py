"""What a series is for. Apart from the volumes: the receiver, say, needs no image library."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a series is for (DESIGN, Words). The order is the network's channel order (paper, Figure 1)."""

    T1 = "t1"
    FLAIR = "flair"
    ADC = "adc"
    LOW_DOSE = "low_dose"
    DWI = "dwi"
    FULL_DOSE = "full_dose"
