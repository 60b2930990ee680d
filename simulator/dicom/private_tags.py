"""Where each vendor keeps diffusion weighting and the number of slices of its own accord.

Conformance statements of the vendors; GE's image types as its engineers list them (dcm2niix, issue 690); Siemens' as in
files of syngo MR E11.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from simulator.grid import Grid
from simulator.protocol import Kind, SeriesPlan, Weighting
from simulator.scanner import Vendor

GE_OFFSET = 1_000_000_000  # added by GE since multi-b protocols
GE_T2, GE_COMBINED = 14, 15  # Vas collapse flag (0043,1030) of b=0 and of the mean over directions
GE_ALONG = (3, 4, 5)  # and of gradients along right-left, anterior-posterior, superior-inferior
GE_ADC = 20
GE_ALL_DIRECTIONS = 7  # Diffusion direction (0021,105A) of the protocol
PHILIPS_ALONG = ("M", "P", "S")  # Diffusion Direction (2001,1004): along rows, along columns, through the slice


def directionality(weighting: Weighting) -> str:
    """NONE, ISOTROPIC or DIRECTIONAL, the standard's words, which Siemens uses in its own element too."""
    if weighting.b == 0:
        return "NONE"
    return "ISOTROPIC" if weighting.direction is None else "DIRECTIONAL"


def b_matrix(weighting: Weighting) -> list[float]:
    """xx, xy, xz, yy, yz, zz in s/mm², patient coordinates."""
    along = np.asarray(weighting.direction or (0.0, 0.0, 0.0))
    full = weighting.b * np.outer(along, along)
    return [float(value) for value in full[np.triu_indices(3)]]


def add_diffusion(ds: Dataset, vendor: Vendor, weighting: Weighting, grid: Grid) -> None:
    """The weighting of one image as ``vendor`` states it in classic images; none of another image stays behind."""
    {Vendor.SIEMENS: _siemens, Vendor.GE: _ge, Vendor.PHILIPS: _philips}[vendor](ds, weighting, grid)


def _siemens(ds: Dataset, weighting: Weighting, grid: Grid) -> None:
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", str(weighting.b))
    block.add_new(0x0D, "CS", directionality(weighting))
    for element in (0x0E, 0x27):
        if element in block:
            del block[element]
    if weighting.b and weighting.direction is not None:
        block.add_new(0x0E, "FD", list(weighting.direction))
        block.add_new(0x27, "FD", b_matrix(weighting))
        number = int(np.argmax(np.abs(np.asarray(weighting.direction) @ grid.directions))) + 1
        ds.SequenceName = f"*ep_b{weighting.b}#{number}"
    else:
        ds.SequenceName = f"*ep_b{weighting.b}" + ("t" if weighting.b else "")


def _ge(ds: Dataset, weighting: Weighting, grid: Grid) -> None:
    if weighting.b:
        ds.DiffusionBValue = float(weighting.b)  # which GE leaves out at b=0
    elif "DiffusionBValue" in ds:
        del ds.DiffusionBValue
    add_ge_parameters(ds, weighting, grid)


def add_ge_parameters(ds: Dataset, weighting: Weighting, grid: Grid) -> None:
    """GE's private elements of one image, or of a frame of an enhanced one; directions are along the image's axes."""
    parameters = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
    parameters.add_new(0x39, "IS", [str(GE_OFFSET + weighting.b), "8", "0", "0"])
    direction = np.zeros(3)
    flag = GE_COMBINED if weighting.b else GE_T2
    if weighting.b and weighting.direction is not None:
        flag = GE_ALONG[int(np.argmax(np.abs(weighting.direction)))]
        direction = np.asarray(weighting.direction) @ grid.directions
    parameters.add_new(0x30, "SS", flag)
    gradient = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for element, component in zip((0xBB, 0xBC, 0xBD), direction, strict=True):
        gradient.add_new(element, "DS", f"{component:.6f}")


def _philips(ds: Dataset, weighting: Weighting, grid: Grid) -> None:
    ds.DiffusionBValue = float(weighting.b)
    block = ds.private_block(0x2001, "Philips Imaging DD 001", create=True)
    block.add_new(0x03, "FL", float(weighting.b))
    along = (0.0, 0.0, 0.0)
    letter = "I" if weighting.b else "N"
    if weighting.b and weighting.direction is not None:
        along = weighting.direction
        letter = PHILIPS_ALONG[int(np.argmax(np.abs(np.asarray(along) @ grid.directions)))]
        ds.DiffusionGradientOrientation = list(along)
    elif "DiffusionGradientOrientation" in ds:
        del ds.DiffusionGradientOrientation
    block.add_new(0x04, "CS", letter)
    vector = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    for element, component in zip((0xB0, 0xB1, 0xB2), along, strict=True):
        vector.add_new(element, "FL", component)


def add_slice_count(ds: Dataset, vendor: Vendor, plan: SeriesPlan) -> None:
    """How many slices a volume of the series has, and GE's sort of diffusion protocol and of map."""
    slices = plan.grid.size[2]
    if vendor is Vendor.PHILIPS:
        ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x18, "SL", slices)
    elif vendor is Vendor.GE:
        relation = ds.private_block(0x0021, "GEMS_RELA_01", create=True)
        relation.add_new(0x4F, "SS", slices)
        if plan.kind in (Kind.DWI, Kind.ADC):
            relation.add_new(0x5A, "SL", GE_ALL_DIRECTIONS)
        if plan.kind is Kind.ADC:
            ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x30, "SS", GE_ADC)


def add_counters(groups: Dataset, plan: SeriesPlan, k: int, volume: int) -> None:
    """The image counters of Siemens' X reconstruction (0021,118E): the 20th and 21st are partitions and slices."""
    slices = plan.grid.size[2]
    numbers = [1] * 22
    numbers[5 if plan.is_t1 else 6] = k + 1
    numbers[16] = volume
    numbers[18 if plan.is_t1 else 19] = slices
    image = Dataset()
    image.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(
        0x8E, "ST", "_".join(["X", *(str(number) for number in numbers)])
    )
    groups.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0xFE, "SQ", [image])
