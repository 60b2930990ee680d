"""Series spoiled as they are on their way to an archive: what a receiver has to notice. Classic and enhanced alike.

Each function takes a series' parsed datasets, changes them in place and gives those that are left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from math import radians, tan

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from simulator.dicom.identity import decimal, uid

Datasets = list[Dataset]
Vector = NDArray[np.float64]
FRAMES, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
COUNTS = (  # group, creator and element of the vendors' own counts of slices
    (0x0021, "GEMS_RELA_01", 0x4F),
    (0x2001, "Philips Imaging DD 001", 0x18),
    (0x0029, "SIEMENS CSA HEADER", 0x20),
)


def without_slices(datasets: Datasets, *numbers: int) -> Datasets:
    """All images of the slices ``numbers`` gone; counted from 0 along the slice normal, from the end if negative."""
    places = _places(datasets)
    doomed = {places[number] for number in numbers}
    return _keep(datasets, lambda depth: depth not in doomed)


def undeclared(datasets: Datasets) -> Datasets:
    """Nothing says any more how many slices there were."""
    for dataset in datasets:
        dataset.pop("ImagesInAcquisition", None)
        for group, creator, element in COUNTS:
            try:
                del dataset.private_block(group, creator)[element]
            except KeyError:
                continue
        places = _places(datasets)
        for frame in dataset.get(FRAMES, []):
            for tag in [element.tag for element in frame if element.tag.is_private]:
                del frame[tag]
            content = frame.FrameContentSequence[0]
            content.InStackPositionNumber = places.index(_depth(dataset, frame)) + 1
    return datasets


def in_two_orientations(datasets: Datasets) -> Datasets:
    """The upper half of the slices turned by a right angle, as a localiser's second stack."""
    places = _places(datasets)
    half = places[len(places) // 2]
    for dataset, image in list(_images(datasets)):
        turned = _depth(dataset, image) >= half
        plane = _plane(dataset, image)
        if image is not dataset:
            image.PlaneOrientationSequence = [plane := copy.deepcopy(plane)]
        row, column = np.reshape(plane.ImageOrientationPatient, (2, 3)).astype(float)
        if turned:
            plane.ImageOrientationPatient = [decimal(round(v, 9)) for v in (*row, *np.cross(row, column))]
    for dataset in datasets:
        for group in dataset.get(SHARED, []):
            group.pop("PlaneOrientationSequence", None)
    return datasets


def with_duplicate(datasets: Datasets, number: int) -> Datasets:
    """One more image, with other pixels, at the place of slice ``number``."""
    place = _places(datasets)[number]
    if FRAMES not in datasets[0]:
        twin = copy.deepcopy(next(dataset for dataset in datasets if _depth(dataset, dataset) == place))
        twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = uid(twin.SOPInstanceUID, "twin")
        twin.InstanceNumber = len(datasets) + 1
        twin.PixelData = twin.PixelData[::-1]
        return [*datasets, twin]
    dataset = datasets[0]
    frames, pixels = dataset[FRAMES].value, dataset.pixel_array
    index = next(index for index, frame in enumerate(frames) if _depth(dataset, frame) == place)
    darker = pixels[index : index + 1] // 2
    _set_frames(dataset, [*frames, copy.deepcopy(frames[index])], np.concatenate([pixels, darker]))
    return datasets


def unevenly_spaced(datasets: Datasets, share: float = 0.4) -> Datasets:
    """The upper half of the slices further up by ``share`` of the slice distance."""
    places = _places(datasets)
    step = float(np.diff(places).min())
    return _moved(datasets, lambda number, normal, _column: normal * share * step * (number >= len(places) // 2))


def tilted(datasets: Datasets, degrees: float = 12.0) -> Datasets:
    """Slices that slide along their columns, as under a tilted gantry."""
    step = float(np.diff(_places(datasets)).min())
    return _moved(datasets, lambda number, _normal, column: column * tan(radians(degrees)) * step * number)


def with_second_echo(datasets: Datasets) -> Datasets:
    """Each classic image a second time, darker, with a longer echo time."""
    twins = copy.deepcopy(datasets)
    for twin in twins:
        twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = uid(twin.SOPInstanceUID, "echo")
        twin.InstanceNumber += len(datasets)
        twin.EchoTime, twin.EchoNumbers = decimal(float(twin.EchoTime) + 80), 2
        twin.PixelData = (twin.pixel_array // 2).tobytes()
    return [*datasets, *twins]


def with_adc(diffusion: Datasets, adc: Datasets) -> Datasets:
    """Classic diffusion images with the scanner's ADC map in the same series, as Philips may send them."""
    for image in adc:
        image.SeriesInstanceUID, image.SeriesNumber = diffusion[0].SeriesInstanceUID, diffusion[0].SeriesNumber
        image.SeriesDescription = image.ProtocolName = diffusion[0].SeriesDescription
        image.InstanceNumber += len(diffusion)
        image.DiffusionBValue = 1000.0
        image.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", 1000.0)
        image.private_block(0x2001, "Philips Imaging DD 001").add_new(0x04, "CS", "I")
    for image in (*diffusion, *adc):
        image.ImagesInAcquisition = len(diffusion) + len(adc)
    return [*diffusion, *adc]


def _images(datasets: Sequence[Dataset]) -> Iterator[tuple[Dataset, Dataset]]:
    """Each image's dataset with the place of its own attributes: its frame's functional groups, or the dataset."""
    for dataset in datasets:
        yield from ((dataset, image) for image in (dataset[FRAMES].value if FRAMES in dataset else [dataset]))


def _plane(dataset: Dataset, image: Dataset) -> Dataset:
    if image is dataset:
        return dataset
    holder = image if "PlaneOrientationSequence" in image else dataset[SHARED].value[0]
    plane: Dataset = holder.PlaneOrientationSequence[0]
    return plane


def _position(image: Dataset) -> Dataset:
    place: Dataset = image.PlanePositionSequence[0] if "PlanePositionSequence" in image else image
    return place


def _axes(dataset: Dataset, image: Dataset) -> tuple[Vector, Vector]:
    """The slice normal and the direction along columns."""
    row, column = np.reshape(_plane(dataset, image).ImageOrientationPatient, (2, 3)).astype(float)
    return np.cross(row, column), column


def _depth(dataset: Dataset, image: Dataset) -> float:
    normal, _ = _axes(dataset, image)
    return round(float(np.asarray(_position(image).ImagePositionPatient, dtype=float) @ normal), 2)


def _places(datasets: Sequence[Dataset]) -> list[float]:
    return sorted({_depth(dataset, image) for dataset, image in _images(datasets)})


def _moved(datasets: Datasets, offset: Callable[[int, Vector, Vector], Vector]) -> Datasets:
    places = _places(datasets)
    for dataset, image in list(_images(datasets)):
        number = places.index(_depth(dataset, image))
        place = _position(image)
        moved = np.asarray(place.ImagePositionPatient, dtype=float) + offset(number, *_axes(dataset, image))
        place.ImagePositionPatient = [decimal(round(float(value), 6)) for value in moved]
    return datasets


def _keep(datasets: Datasets, wanted: Callable[[float], bool]) -> Datasets:
    if FRAMES not in datasets[0]:
        return [dataset for dataset in datasets if wanted(_depth(dataset, dataset))]
    for dataset in datasets:
        frames = dataset[FRAMES].value
        kept = [index for index, frame in enumerate(frames) if wanted(_depth(dataset, frame))]
        _set_frames(dataset, [frames[index] for index in kept], dataset.pixel_array[kept])
    return datasets


def _set_frames(dataset: Dataset, frames: Sequence[Dataset], pixels: NDArray[np.uint16]) -> None:
    setattr(dataset, FRAMES, list(frames))
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = pixels.astype("<u2").tobytes()
