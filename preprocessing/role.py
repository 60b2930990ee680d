"""What a series is for. Apart from the volumes: the receiver, say, needs no image library."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a series is for (DESIGN, Words)."""

    T1 = "t1"
    FLAIR = "flair"
    ADC = "adc"
    LOW_DOSE = "low_dose"
    DWI = "dwi"
    FULL_DOSE = "full_dose"


CHANNELS = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)
"""The paper's inputs, in the network's channel order."""
