"""Enhancing lesions from DICOM Segmentation objects (PS3.3 A.51) that lie with a study."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import highdicom as hd
import numpy as np

from preprocessing.volume import Geometry, Volume

SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
ENHANCING = "enhanc"
"""In the label of a segment that is an enhancing lesion: "enhancing lesion", "Enhancing tumour", "enhancement"."""


def enhancing_lesions(paths: Iterable[Path]) -> tuple[Volume, ...]:
    """A mask of ones and zeros from each object that has segments of enhancing lesions, by their labels. Raises
    ValueError for an object that cannot be laid out as one regular volume."""
    return tuple(mask for path in paths if (mask := _mask(path)) is not None)


def _mask(path: Path) -> Volume | None:
    try:
        segmentation = hd.seg.segread(path)
        labels = {one.segment_number: one.segment_label.lower() for one in segmentation.SegmentSequence}
        chosen = [number for number, label in labels.items() if ENHANCING in label]
        if not chosen:
            return None
        laid_out = segmentation.get_volume(segment_numbers=chosen)
    except (AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"the segmentation {path.name} cannot be read as a mask ({error}): take it out of the folder to have the "
            "study without lesions"
        ) from error
    # highdicom's axes are (slice, row, column); a geometry's are (i, j, k) = (column, row, slice)
    slices, rows, columns = laid_out.spatial_shape
    to_mm = laid_out.affine
    steps = to_mm[:3, [2, 1, 0]]
    spacing = np.linalg.norm(steps, axis=0)
    geometry = Geometry(
        (columns, rows, slices), tuple(to_mm[:3, 3].tolist()), tuple(spacing.tolist()),
        tuple((steps / spacing).ravel().tolist()), str(laid_out.frame_of_reference_uid or ""),
    )  # fmt: skip
    marked = laid_out.array.reshape(slices, rows, columns, -1).any(axis=-1)
    return Volume(marked.astype(np.float32), geometry, path.name)
