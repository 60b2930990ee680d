"""The scanners that studies can come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise


class Vendor(StrEnum):
    """Whose tags and private elements the files carry."""

    SIEMENS = "siemens"
    GE = "ge"
    PHILIPS = "philips"


class Layout(StrEnum):
    """How slices become files: one each, all of a series in one, or Siemens' mosaics for diffusion."""

    CLASSIC = "classic"
    ENHANCED = "enhanced"
    MOSAIC = "mosaic"


_MODELS = {
    (Vendor.SIEMENS, 1.5): "MAGNETOM Aera",
    (Vendor.SIEMENS, 3.0): "MAGNETOM Skyra",
    (Vendor.GE, 1.5): "SIGNA Artist",
    (Vendor.GE, 3.0): "DISCOVERY MR750",
    (Vendor.PHILIPS, 1.5): "Ingenia",
    (Vendor.PHILIPS, 3.0): "Ingenia",
}
_MANUFACTURERS = {
    Vendor.SIEMENS: "SIEMENS",
    Vendor.GE: "GE MEDICAL SYSTEMS",
    Vendor.PHILIPS: "Philips Medical Systems",
}
_SOFTWARE = {
    Vendor.SIEMENS: "syngo MR E11",
    Vendor.GE: "27\\LX\\MR Software release:DV26.0_R03",
    Vendor.PHILIPS: "5.7.1",
}


@dataclass(frozen=True)
class Scanner:
    """A scanner and how it is used.

    ``field_tesla`` is 1.5 or 3; ``t1_sequence`` "mprage" or "spgr"; ``scanner_adc`` adds the scanner's own ADC map;
    ``noise`` is the standard deviation of the noise relative to white matter on T1; ``t1_slice_mm`` the T1 partition
    thickness. ``b_values`` of the diffusion series in s/mm² ascend from 0; ``directions`` is 0 for the trace or 3 for
    single directions.
    """

    vendor: Vendor = Vendor.SIEMENS
    field_tesla: float = 3.0
    layout: Layout = Layout.CLASSIC
    t1_sequence: str = "mprage"
    scanner_adc: bool = False
    agent: str = "gadoterate"
    noise: float = 0.02
    t1_slice_mm: float = 1.2
    # Not in repr, which the UIDs are made from: studies without these keep the UIDs that they had before them.
    b_values: tuple[int, ...] = field(default=(0, 1000), repr=False)
    directions: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.field_tesla not in (1.5, 3.0):
            raise ValueError(f"field {self.field_tesla:g} T is not simulated; choose 1.5 or 3")
        if self.layout is Layout.MOSAIC and self.vendor is not Vendor.SIEMENS:
            raise ValueError(f"mosaics are Siemens' own; {self.vendor} writes classic or enhanced")
        if self.t1_sequence not in ("mprage", "spgr"):
            raise ValueError(f"T1 sequence {self.t1_sequence!r} is not known; choose mprage or spgr")
        if not 0 <= self.noise <= 0.2:
            raise ValueError(f"noise {self.noise:g} of white matter is out of range; 0.01 to 0.05 is usual")
        ascending = all(low < high for low, high in pairwise(self.b_values))
        if len(self.b_values) < 2 or self.b_values[0] != 0 or not ascending or self.b_values[-1] > 5000:
            raise ValueError(f"b-values {self.b_values} must ascend from 0 to at most 5000 s/mm², as 0,500,1000 do")
        if self.directions not in (0, 3):
            raise ValueError(f"{self.directions} diffusion directions are not simulated; choose 3, or 0 for the trace")

    @property
    def manufacturer(self) -> str:
        """Manufacturer (0008,0070)."""
        if self.vendor is Vendor.SIEMENS and self.layout is Layout.ENHANCED:
            return "Siemens Healthineers"
        return _MANUFACTURERS[self.vendor]

    @property
    def model(self) -> str:
        """Manufacturer's Model Name (0008,1090)."""
        return _MODELS[self.vendor, self.field_tesla]

    @property
    def software(self) -> str:
        """Software Versions (0018,1020)."""
        if self.vendor is Vendor.SIEMENS and self.layout is Layout.ENHANCED:
            return "syngo MR XA30"
        if self.vendor is Vendor.GE and self.layout is Layout.ENHANCED:
            return "30\\LX\\MR Software release:MR30.0_R01"
        return _SOFTWARE[self.vendor]
