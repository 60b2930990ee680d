"""Siemens' CSA headers, as much of them as readers look at.

The binary layout ("SV10") is not published by Siemens; nibabel's page "Siemens format DICOM with CSA header" does.
"""

from __future__ import annotations

import struct

import numpy as np
from pydicom.dataset import Dataset

from simulator.dicom.private_tags import b_matrix, directionality
from simulator.grid import Grid
from simulator.protocol import Weighting

_SYNGO_TYPES = {"IS": 6, "FD": 4, "US": 10, "CS": 16, "SH": 22}


def add_image(ds: Dataset, grid: Grid, weighting: Weighting) -> None:
    """CSA Image Header Info (0029,1010) of a mosaic: number of slices, their normal, the weighting."""
    normal = [f"{value:.8f}" for value in grid.directions[:, 2]]
    directed = weighting.b > 0 and weighting.direction is not None
    direction = [f"{value:.8f}" for value in weighting.direction or ()] if directed else []
    _add(ds, 0x08, "IMAGE NUM 4", [
        ("NumberOfImagesInMosaic", "US", 1, [str(grid.size[2])]),
        ("AcquisitionMatrixText", "SH", 1, [f"{grid.size[0]}p*{grid.size[1]}"]),
        ("SliceNormalVector", "FD", 3, normal),
        ("B_value", "IS", 1, [str(weighting.b)]),
        ("DiffusionDirectionality", "CS", 1, [directionality(weighting)]),
        ("DiffusionGradientDirection", "FD", 3, direction),
        ("B_matrix", "FD", 6, [f"{value:.8f}" for value in b_matrix(weighting)] if directed else []),
        ("PhaseEncodingDirectionPositive", "IS", 1, ["1"]),
        ("BandwidthPerPixelPhaseEncode", "FD", 1, ["14.0"]),
    ])  # fmt: skip


def add_protocol(ds: Dataset, grid: Grid, three_dimensional: bool) -> None:
    """CSA Series Header Info (0029,1020): the protocol's text with the slices, all that readers need of it."""
    slices = grid.size[2]
    groups = 1 if three_dimensional else slices  # a slab of partitions, or slices
    lines = [
        "### ASCCONV BEGIN ###",
        f"sSliceArray.lSize                        = {groups}",
        f"sKSpace.lImagesPerSlab                   = {slices if three_dimensional else 64}",
        f"sKSpace.ucDimension                      = {4 if three_dimensional else 2}",
    ]
    centre = (np.asarray(grid.size) - 1) / 2
    for group in range(groups):
        position = grid.point(centre if three_dimensional else (centre[0], centre[1], group))
        for axis, value in zip(("dSag", "dCor", "dTra"), position, strict=True):
            lines.append(f"sSliceArray.asSlice[{group}].sPosition.{axis}    = {value:.8f}")
    lines.append("### ASCCONV END ###")
    _add(ds, 0x18, "MR", [("MrPhoenixProtocol", "UN", 1, ["\n".join(lines) + "\n"])])


def _add(ds: Dataset, first: int, kind: str, entries: list[tuple[str, str, int, list[str]]]) -> None:
    """The type of the header at ``first`` and the header itself eight elements on."""
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(first, "CS", kind)
    block.add_new(first + 8, "OB", _pack(entries))


def _pack(entries: list[tuple[str, str, int, list[str]]]) -> bytes:
    """Name, value representation, multiplicity and values of every entry, as SV10."""
    parts = [b"SV10", b"\4\3\2\1", struct.pack("<2I", len(entries), 77)]
    for name, representation, multiplicity, values in entries:
        syngo = _SYNGO_TYPES.get(representation, 0)
        items = max(len(values), 6)
        parts.append(struct.pack("<64si4s3i", name.encode(), multiplicity, representation.encode(), syngo, items, 77))
        for number in range(items):
            content = values[number].encode("latin-1") + b"\0" if number < len(values) else b""
            length = len(content)
            parts.append(struct.pack("<4i", length, length, 77, length))
            parts.append(content + b"\0" * (-length % 4))
    whole = b"".join(parts)
    return whole + b"\0" * (len(whole) % 2)
