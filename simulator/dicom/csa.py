"""Siemens' CSA headers, as much of them as readers of mosaics look at.

The binary layout ("SV10") is not published by Siemens; nibabel's page "Siemens format DICOM with CSA header" does.
"""

from __future__ import annotations

import struct

import numpy as np

from simulator.grid import Grid

_SYNGO_TYPES = {"IS": 6, "FD": 4, "US": 10, "CS": 16, "SH": 22}


def image_header(grid: Grid, b: int) -> bytes:
    """CSA Image Header Info (0029,1010): number of slices, their normal, the b-value."""
    normal = [f"{value:.8f}" for value in grid.directions[:, 2]]
    return _pack([
        ("NumberOfImagesInMosaic", "US", 1, [str(grid.size[2])]),
        ("AcquisitionMatrixText", "SH", 1, [f"{grid.size[0]}p*{grid.size[1]}"]),
        ("SliceNormalVector", "FD", 3, normal),
        ("B_value", "IS", 1, [str(b)]),
        ("DiffusionDirectionality", "CS", 1, ["NONE" if b == 0 else "ISOTROPIC"]),
        ("PhaseEncodingDirectionPositive", "IS", 1, ["1"]),
        ("BandwidthPerPixelPhaseEncode", "FD", 1, ["14.0"]),
    ])  # fmt: skip


def series_header(grid: Grid) -> bytes:
    """CSA Series Header Info (0029,1020): the protocol's text with the slice positions, all that readers need of it."""
    lines = ["### ASCCONV BEGIN ###", f"sSliceArray.lSize                        = {grid.size[2]}"]
    centre = (np.asarray(grid.size) - 1) / 2
    for k in range(grid.size[2]):
        position = grid.point((centre[0], centre[1], k))
        for axis, value in zip(("dSag", "dCor", "dTra"), position, strict=True):
            lines.append(f"sSliceArray.asSlice[{k}].sPosition.{axis}    = {value:.8f}")
    lines.append("### ASCCONV END ###")
    text = "\n".join(lines) + "\n"
    return _pack([("MrPhoenixProtocol", "UN", 1, [text])])


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
