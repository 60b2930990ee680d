"""Siemens mosaics: all slices of a volume as tiles of one classic image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from preprocessing.bvalue import PrivateTag, private_value
from preprocessing.frame import Frame

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # nibabel calls its DICOM readers experimental at every import
    from nibabel.nicom import csareader

TILES = PrivateTag(0x0019, "SIEMENS MR HEADER", 0x0A)


@dataclass(frozen=True)
class Layout:
    """``count`` slices, ``step`` mm apart along the unit vector ``normal`` (LPS; absent: the image plane's normal)."""

    count: int
    step: float
    normal: NDArray[np.float64] | None


def is_mosaic(dataset: Dataset) -> bool:
    """Whether the classic image is a Siemens mosaic."""
    return "MOSAIC" in [str(value).upper() for value in dataset.get("ImageType", [])]


def layout_of(dataset: Dataset) -> Layout:
    """How the tiles lie in space. Raises ``ValueError`` when the header does not say."""
    csa = csareader.get_csa_header(dataset, "image")
    count = private_value(dataset, TILES) or (csareader.get_n_mosaic(csa) if csa else None)
    step = dataset.get("SpacingBetweenSlices")
    if not isinstance(count, str | int | float) or not step or int(count) < 1:
        raise ValueError(
            "is a Siemens mosaic without its number of slices (0019,100A) or Spacing Between Slices (0018,0088)"
        )
    normal = csareader.get_slice_normal(csa) if csa else None
    return Layout(int(count), float(step), None if normal is None else np.asarray(normal, dtype=np.float64))


def tiles(whole: Frame, layout: Layout) -> Iterator[Frame]:
    """The slices as frames of their own.

    Image Position (Patient) of a mosaic is that of the first slice as if it were as large as the whole mosaic, centred
    on the same point (Siemens' convention, nibabel's "DICOM mosaic" page), so the first tile's corner lies further in.
    """
    across = math.ceil(math.sqrt(layout.count))
    rows, columns = whole.shape[0] // across, whole.shape[1] // across
    normal = np.cross(whole.row_cosine, whole.column_cosine) if layout.normal is None else layout.normal
    corner = (
        whole.position
        + whole.row_cosine * whole.spacing[1] * (whole.shape[1] - columns) / 2
        + whole.column_cosine * whole.spacing[0] * (whole.shape[0] - rows) / 2
    )
    for tile in range(layout.count):
        top, left = tile // across * rows, tile % across * columns
        part = (slice(top, top + rows), slice(left, left + columns))
        yield replace(
            whole,
            where=f"tile {tile + 1} of {whole.where}",
            position=corner + normal * layout.step * tile,
            shape=(rows, columns),
            read=lambda part=part: whole.read()[part],  # type: ignore[misc]
        )
