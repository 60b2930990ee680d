"""The limits and words by which a series gets its role: the ``[roles]`` table of ``config.toml``.

Times are in ms, lengths in mm, angles in degrees, b-values in s/mm², doses in mmol/kg. A range is ``[from, to]``, both
ends included. The defaults cover what the large vendors run at 1.5 T and 3 T; a site changes single keys, or adds
the entries of ``[roles] override``, which win over everything else.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"a range needs its smaller number first, got [{limits[0]:g}, {limits[1]:g}]")
    return limits


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


Range = Annotated[tuple[float, float], AfterValidator(ordered)]
Pattern = Annotated[str, AfterValidator(_compiles)]
Words = tuple[str, ...]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RoleOverride(_Table):
    """One site rule: where every given condition holds, the series gets ``role``, whatever physics says.

    The patterns are regular expressions, found anywhere in the value, upper and lower case alike.
    """

    role: Literal["t1", "flair", "adc", "low_dose", "dwi", "full_dose", "ignore"]
    series_description: Pattern | None = None
    protocol_name: Pattern | None = None
    manufacturer: Pattern | None = None
    model_name: Pattern | None = None
    station_name: Pattern | None = None
    ae_title: Pattern | None = None  # the AE title that sent the series
    series_number: int | None = None

    @model_validator(mode="after")
    def _has_a_condition(self) -> RoleOverride:
        if not self.model_fields_set - {"role"}:
            raise ValueError("an override needs at least one condition, for example series_description")
        return self


class NameWords(_Table):
    """Words in Series Description or Protocol Name that speak for a role; heard only where physics leaves a choice."""

    t1: Words = ("t1", "t1w", "mprage", "mp-rage", "bravo", "spgr", "tfe", "tfl", "vibe", "flash")
    flair: Words = ("flair", "dark fluid", "darkfluid", "tirm")
    adc: Words = ("adc", "apparent diffusion")
    low_dose: Words = ("low dose", "low-dose", "lowdose", "quarter", "25%", "ld")
    dwi: Words = ("dwi", "diffusion", "ep2d_diff", "resolve")
    full_dose: Words = ("full dose", "full-dose", "fulldose", "100%", "fd")


class RoleRules(_Table):
    """Every number and word that decides on a role."""

    # What a volume must be to be looked at
    min_slices: int = Field(default=12, ge=1)  # fewer: a localizer, a scout, a single slab
    min_coverage_mm: float = Field(default=80.0, ge=0)  # from the first slice to the last, slice thickness included
    max_in_plane_mm: float = Field(default=3.0, gt=0)  # coarser pixels: a calibration scan; diffusion is allowed twice
    excluded_image_types: Words = (
        "LOCALIZER", "SCOUT", "PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "MNIP", "MPR", "REFORMATTED", "RESAMPLED",
        "CURVED MPR", "SCREEN SAVE", "CSA REPORT", "PHASE", "P", "PHASE MAP", "REAL", "IMAGINARY", "R", "I", "SWI",
        "QSM", "VELOCITY", "PERFUSION", "ASL", "CBF", "CBV", "MTT", "TTP", "TMAX", "PBP", "GBP", "SUBTRACTION", "SUB",
        "FA", "FRACTIONAL_ANISOTROPY", "TENSOR", "COLFA", "EADC", "EXP", "EXPONENTIAL", "FMRI", "TOF",
        "ANGIO", "T1 MAP", "T2 MAP", "T2_STAR MAP", "FIELD_MAP",
    )  # one of these among the values of Image Type or Frame Type leaves the series without a role
    adc_image_types: Words = ("ADC", "ADC_UNSPECIFIED", "APPARENT DIFFUSION COEFFICIENT", "DIFFUSION ADC")
    trace_image_types: Words = ("TRACEW", "TRACE", "ISOTROPIC", "AVDC", "COMBINED")

    # T1: gradient echo after an inversion (MPRAGE, TFE, IR-FSPGR/BRAVO)
    t1_inversion_ti: Range = (350.0, 1400.0)
    t1_gradient_max_te: float = 10.0
    # T1: spoiled gradient echo (FLASH, VIBE, SPGR, FFE)
    t1_gradient_min_tr: float = 4.0  # below: head scouts, coil calibration
    t1_gradient_max_tr: float = 350.0
    t1_gradient_min_flip: float = 6.0  # below: proton density
    balanced_max_tr: float = 12.0  # a TR this short ...
    balanced_min_flip: float = 28.0  # ... with a flip angle this large is balanced or angiographic, not spoiled T1
    # T1: spin echo and turbo spin echo (SE, TSE, SPACE, CUBE, VISTA)
    t1_spin_max_tr: float = 1200.0
    t1_spin_max_te: float = 35.0
    # T1: spin echo after an inversion (T1-FLAIR)
    t1_flair_ti: Range = (500.0, 1400.0)
    t1_flair_max_te: float = 45.0
    t1_flair_max_tr: float = 4000.0

    # FLAIR
    flair_ti: Range = (1400.0, 2950.0)
    flair_min_te: float = 60.0
    flair_min_tr: float = 4000.0

    # DWI and ADC
    dwi_low_b_max: float = 50.0  # at least one b-value up to here ...
    dwi_high_b_min: float = 500.0  # ... and one from here on

    # Contrast. Cumulative dose when the series was acquired
    no_agent_words: Words = ("no", "none", "n", "nein", "non", "without", "no contrast", "unenhanced", "0", "n/a")
    no_dose_max: float = Field(default=0.002, ge=0)  # up to here a dose tag means: nothing injected yet
    low_dose_max: float = 0.05
    full_dose_min: float = 0.06

    # Names, as the last word only
    names: NameWords = NameWords()

    # Rules of the site, first match wins, before everything above
    override: tuple[RoleOverride, ...] = ()

    @model_validator(mode="after")
    def _doses_ascend(self) -> RoleRules:
        if not self.no_dose_max < self.low_dose_max < self.full_dose_min:
            raise ValueError(
                "no_dose_max < low_dose_max < full_dose_min must hold, got "
                f"{self.no_dose_max:g}, {self.low_dose_max:g}, {self.full_dose_min:g}"
            )
        return self
