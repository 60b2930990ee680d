"""The virtual series as one Multi-frame Grayscale Word Secondary Capture (PS3.3 A.8.4), labelled in the picture."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from node.derive.frames import frame_groups, set_dimensions, set_pixels, shared_geometry
from node.derive.header import derivation_codes, describe, start_object
from node.derive.pixels import StoredPixels, quantise, window_for
from node.derive.provenance import Provenance
from node.derive.source import Instance, SourceSeries
from preprocessing.volume import FloatArray

KIND = "secondary_capture"
SOP_CLASS = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
IMAGE_TYPE = ["DERIVED", "SECONDARY", "VIRTUAL"]
LABEL = "VIRTUAL"
SERIES_NUMBER_OFFSET = 2000
_LABEL_HEIGHT = 1 / 18  # of the picture, as overlays in viewers are
_SMALLEST_FONT = 9  # pixels: below, the letters are no longer told apart


def secondary_capture(
    array: FloatArray, source: SourceSeries, others: Iterable[Instance], provenance: Provenance
) -> Dataset:
    """``array`` is (frames, rows, columns) in the order of ``source.frames`` and in that series' signal units."""
    dataset = start_object(source, others, provenance, KIND, SOP_CLASS)
    dataset.SeriesNumber = int(source.header.get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET
    dataset.ConversionType = "SYN"  # synthetic image (PS3.3 C.8.6.1)
    dataset.ImageType = IMAGE_TYPE
    dataset.PatientOrientation = None
    dataset.BurnedInAnnotation = "YES"
    dataset.DerivationDescription = describe(provenance)
    dataset.DerivationCodeSequence = derivation_codes()
    # The IOD allows no slope but 1 (PS3.3 C.8.6.3): one that was needed is dropped, for this is a picture.
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    stored = quantise(array).stored
    window = window_for(stored)
    dataset.WindowCenter, dataset.WindowWidth = window.center, window.width
    dataset.SharedFunctionalGroupsSequence = [shared_geometry(source)]
    dataset.PerFrameFunctionalGroupsSequence = frame_groups(source, provenance)
    dataset.FrameIncrementPointer = tag_for_keyword("PerFrameFunctionalGroupsSequence")
    set_dimensions(dataset, provenance, KIND)
    set_pixels(dataset, StoredPixels(burn_in(stored), "1"))
    return dataset


def burn_in(stored: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Every frame of (frames, rows, columns) with LABEL in its upper left corner, at the brightest value, on black.

    Raises ``ValueError`` if the frames are too small to be labelled legibly.
    """
    stamp = _stamp(stored.shape[1])
    height, width = stamp.shape
    if height > stored.shape[1] or width > stored.shape[2]:
        raise ValueError(f"a frame of {stored.shape[1]} × {stored.shape[2]} pixels is too small for the label {LABEL}")
    labelled = stored.copy()
    labelled[:, :height, :width] = np.where(stamp, max(int(stored.max()), 1), 0)
    return labelled


def _stamp(rows: int) -> NDArray[np.bool_]:
    font = ImageFont.load_default(size=max(_SMALLEST_FONT, round(rows * _LABEL_HEIGHT)))
    left, top, right, bottom = font.getbbox(LABEL)
    margin = 2
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    image = Image.new("1", size)  # one bit: no grey rims that a narrow window would tear
    ImageDraw.Draw(image).text((margin - left, margin - top), LABEL, fill=1, font=font)
    return np.asarray(image, dtype=np.bool_)
