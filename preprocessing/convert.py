"""A DICOM series to volumes: the right geometry, the right b-values, or a refusal that says why.

pydicom parses and decodes; what lies where, and what belongs together, is decided here, for every vendor and layout.
docs/conversion.md shows side by side what dicom2nifti, SimpleITK and dcm2niix make of the same series, sound and
faulty, and why none of them reads for the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from preprocessing.conversion_error import ConversionError
from preprocessing.declared import require_declared_images, require_declared_slices
from preprocessing.frame import Frame
from preprocessing.frames import SEND_AGAIN, Source, frames_of, read_source
from preprocessing.stack import slices_of, volume_of
from preprocessing.volume import FloatArray, Volume

__all__ = ["ConversionError", "ConvertedSeries", "convert_series"]

MAPS = {"ADC", "EADC", "FA"}  # derived maps that some vendors keep in the diffusion series
SPLITS: tuple[Callable[[Frame], object], ...] = (
    lambda frame: frame.echo_time,
    lambda frame: frame.kind,
    lambda frame: frame.time,
    lambda frame: frame.acquisition,
)


@dataclass(frozen=True)
class ConvertedSeries:
    """A series as volumes on one grid.

    ``b_values`` has one entry per volume in s/mm², ascending, 0 for what is not diffusion. Several directions or
    repeats at one b-value are one volume here: their voxelwise geometric mean, the trace-weighted image, whose
    logarithm is the mean of theirs so that the fitted ADC is the mean diffusivity. ``adc`` is the scanner's own map,
    in the header's units, when the series is or contains one. ``reader`` says how the series was laid out, for the log.
    """

    volumes: tuple[Volume, ...]
    b_values: tuple[float, ...]
    reader: str
    adc: Volume | None = None


def convert_series(files: Sequence[Path]) -> ConvertedSeries:
    """The volumes of one series, from all of its files in any order.

    Values are float32 with the rescale slope and intercept applied. Raises ``ConversionError`` for anything that is not
    one regular volume or several on the same grid; never converts wrongly.
    """
    if not files:
        raise ConversionError("the series", "has no files", SEND_AGAIN)
    sources = [read_source(path) for path in files]
    uid = _the_same(sources, "SeriesInstanceUID", "Convert one series at a time")
    reference = _the_same(sources, "FrameOfReferenceUID", SEND_AGAIN)
    description = sources[0].dataset.get("SeriesDescription", "")
    where = f"series {description or 'without description'} ({uid})"
    frames = [frame for source in sources for frame in frames_of(source)]
    signal = [frame for frame in frames if not MAPS & set(frame.kind)]
    maps = [frame for frame in frames if "ADC" in frame.kind]
    if not signal and not maps:
        raise ConversionError(where, "holds only derived maps that are no ADC", "Send the diffusion series itself")
    require_declared_slices(sources, len(slices_of(signal or maps, where)), where)
    require_declared_images(sources, frames, where)
    adc = _read(slices_of(_only_one(maps, where), where), reference, uid) if maps else None
    if not signal:
        assert adc is not None  # noqa: S101 - there are maps
        return ConvertedSeries((adc,), (0.0,), f"{_kinds(sources)}, the scanner's ADC map", adc)
    if any(frame.b_value for frame in signal):
        volumes, b_values = _diffusion(signal, where, reference, uid)
        return ConvertedSeries(volumes, b_values, f"{_kinds(sources)}, diffusion split by b-value", adc)
    groups = [slices_of(group, where) for group in _split(signal, where)]
    volumes = _on_one_grid([_read(group, reference, uid) for group in groups], where)
    return ConvertedSeries(volumes, (0.0,) * len(volumes), f"{_kinds(sources)}, {_counted(len(volumes))}", adc)


def _diffusion(
    frames: Sequence[Frame], where: str, reference: str, uid: str
) -> tuple[tuple[Volume, ...], tuple[float, ...]]:
    without = [frame for frame in frames if frame.b_value is None]
    if without:
        raise ConversionError(
            where, f"{len(without)} of its {len(frames)} images, such as {without[0].where}, carry no b-value",
            "Send the series as the scanner made it, with its private attributes",
        )
    places = len(slices_of(frames, where))
    volumes, b_values = [], []
    for group in _by_b_value(frames):
        b = float(np.mean([frame.b_value for frame in group]))
        here = f"{where}, b={b:.0f}"
        averaged = [frame for frame in group if frame.isotropic]
        slices = slices_of(averaged or group, here)
        if len(slices) != places:
            raise ConversionError(here, f"has {len(slices)} slices, the series {places}", "Send the missing images")
        counts = Counter(len(images) for images in slices)
        usual = counts.most_common(1)[0][0]
        for number, images in enumerate(slices, start=1):
            if len(images) != usual:
                raise ConversionError(
                    here, f"slice number {number} at {_place(images[0])} mm has {len(images)} images, the other slices "
                    f"{usual}: " + ("images are missing" if len(images) < usual else "duplicate positions"), SEND_AGAIN,
                )
        volumes.append(_read(slices, reference, uid))
        b_values.append(round(b, 3))
    return _on_one_grid(volumes, where), tuple(b_values)


def _by_b_value(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one nominal b-value, ascending: scanners write 2495 and 2505 for directions of b=2500."""
    groups: list[list[Frame]] = []
    for frame in sorted(frames, key=lambda frame: frame.b_value or 0.0):
        b = frame.b_value or 0.0
        if groups and b - (groups[-1][-1].b_value or 0.0) <= max(6.0, 0.02 * b):
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def _split(frames: Sequence[Frame], where: str) -> list[list[Frame]]:
    """One list per volume. Only positions that repeat are a reason to split: a volume may span several acquisitions."""
    groups = [list(frames)]
    for key in SPLITS:
        if not any(_repeats(group) for group in groups):
            break
        groups = [[frame for frame in group if key(frame) == value] for group in groups
                  for value in dict.fromkeys(key(frame) for frame in group)]
    for group in groups:
        if (twice := _repeats(group)) is not None:
            raise ConversionError(
                where,
                f"has duplicate positions: {twice[0].where} and {twice[1].where} both lie at {_place(twice[0])} mm",
                "Remove the images that were sent or reconstructed twice",
            )
    return groups


def _only_one(frames: Sequence[Frame], where: str) -> list[Frame]:
    groups = _split(frames, where)
    if len(groups) > 1:
        raise ConversionError(where, f"holds {len(groups)} ADC maps", "Send them as series of their own")
    return groups[0]


def _repeats(frames: Sequence[Frame]) -> tuple[Frame, Frame] | None:
    places = np.asarray([(*frame.position, *(10 * frame.row_cosine), *(10 * frame.column_cosine)) for frame in frames])
    seen: dict[bytes, Frame] = {}
    for frame, place in zip(frames, np.round(10 * places).astype(np.int64), strict=True):
        if (key := place.tobytes()) in seen:
            return seen[key], frame
        seen[key] = frame
    return None


def _place(frame: Frame) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in frame.position) + ")"


def _read(slices: Sequence[Sequence[Frame]], reference: str, uid: str) -> Volume:
    """Each slice's pixels, the geometric mean where it has several images."""
    array = np.empty((len(slices), *slices[0][0].shape), dtype=np.float32)
    for k, images in enumerate(slices):
        array[k] = _geometric_mean([frame.read() for frame in images])
    return volume_of(slices, array, reference, uid)


def _geometric_mean(images: Sequence[FloatArray]) -> FloatArray:
    """Voxelwise; a zero counts as half the smallest signal, for free water at high b is rounded to zero, not gone."""
    if len(images) == 1:
        return images[0]
    stack = np.stack(images).astype(np.float64)
    if not (stack > 0).any():
        return images[0]
    logs = np.log(np.maximum(stack, stack[stack > 0].min() / 2)).mean(axis=0)
    mean: FloatArray = np.where((stack > 0).any(axis=0), np.exp(logs), 0).astype(np.float32)
    return mean


def _the_same(sources: Sequence[Source], name: str, remedy: str) -> str:
    values = dict.fromkeys(str(source.dataset.get(name, "")) for source in sources)
    if len(values) > 1:
        listed = ", ".join(value or "none" for value in values)
        raise ConversionError("the series", f"has {len(values)} different values of {name}: {listed}", remedy)
    return next(iter(values))


def _on_one_grid(volumes: Sequence[Volume], where: str) -> tuple[Volume, ...]:
    """The volumes with the first one's geometry, from which they may differ by the rounding of their headers only."""
    first = volumes[0].geometry
    for volume in volumes[1:]:
        if volume.geometry.size != first.size or not np.allclose(volume.geometry.affine, first.affine, atol=1e-3):
            raise ConversionError(where, "has volumes on different grids", "Send each as a series of its own")
    return tuple(replace(volume, geometry=first) for volume in volumes)


def _counted(volumes: int) -> str:
    return "1 volume" if volumes == 1 else f"{volumes} volumes"


def _kinds(sources: Sequence[Source]) -> str:
    return " and ".join(sorted({source.kind for source in sources}))
