"""The slices of one SOP instance: where each lies, and what they have in common (classic, enhanced, mosaic)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from node.header.diffusion import PHILIPS_IMAGING, SIEMENS_MR, b_value, csa_number
from node.header.elements import Elements, private_tags

Plane = tuple[float, ...]  # six direction cosines, rows then columns: Image Orientation (Patient)

TAGS: list[str | int] = [
    "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ImagePositionPatient",
    "ImageOrientationPatient", "SpacingBetweenSlices", "SliceThickness", "TemporalPositionIdentifier", "EchoTime",
    *private_tags(0x0019, 0x0A),
]  # fmt: skip
# Philips keeps its classic elements, the b-value among them, in a private sequence of each frame.
_PHILIPS_FRAME = 0x2005140F


@dataclass(frozen=True)
class Stack:
    """Slices of one instance that differ in nothing but their place.

    ``positions``: mm along the slice normal, ascending, each as often as it occurs; empty when geometry is missing,
    so that ``count`` (images) may be larger. ``image_type``: Frame Type, or the classic Image Type.
    """

    image_type: tuple[str, ...] = ()
    b_value: float | None = None
    temporal: int | None = None
    echo_ms: float | None = None
    count: int = 1
    positions: tuple[float, ...] = ()


@dataclass(frozen=True)
class Slices:
    """All slices of one instance.

    ``planes``: every orientation that occurs (a localizer has three). ``frames``: what the instance says it holds;
    an enhanced one describes each in ``stacks``.
    """

    stacks: tuple[Stack, ...]
    planes: tuple[Plane, ...]
    frames: int
    tiles: int = 0  # edge of a mosaic in tiles; 0 when it is none


class Macros:
    """Attributes of an enhanced instance by (macro, keyword): the first frame's functional groups, then the shared."""

    def __init__(self, elements: Elements) -> None:
        self.shared = next(iter(elements.items("SharedFunctionalGroupsSequence")), None)
        self.frames = elements.items("PerFrameFunctionalGroupsSequence")

    def items(self, macro: str, frame: int = 0) -> list[Elements]:
        """The macro's items for one frame; a macro is either per frame or shared (PS3.3 C.7.6.16)."""
        places = ([self.frames[frame]] if frame < len(self.frames) else []) + ([self.shared] if self.shared else [])
        return next((items for place in places if (items := place.items(macro))), [])

    def number(self, macro: str, keyword: str) -> float | None:
        """The attribute's first number in the first frame."""
        return next((found for item in self.items(macro) if (found := item.number(keyword)) is not None), None)

    def text(self, macro: str, keyword: str) -> str:
        """The attribute's text in the first frame."""
        return next((found for item in self.items(macro) if (found := item.text(keyword))), "")


def slices(elements: Elements, macros: Macros, image_type: tuple[str, ...], manufacturer: str) -> Slices:
    """Read the slices of a classic, mosaic or enhanced instance; what has no geometry is counted all the same."""
    if macros.frames:
        return _enhanced(macros, image_type, manufacturer, elements.integer("NumberOfFrames"))
    plane = _plane(elements)
    planes = (plane,) if plane else ()
    position = _position(elements, plane)
    b = b_value(elements, manufacturer)
    temporal, echo = elements.integer("TemporalPositionIdentifier"), elements.number("EchoTime")
    tiles = _mosaic_images(elements, image_type)
    if tiles:
        gap = elements.number("SpacingBetweenSlices") or elements.number("SliceThickness")
        positions = tuple(round(position + k * gap, 4) for k in range(tiles)) if position is not None and gap else ()
        stack = Stack(image_type, b, temporal, echo, tiles, positions)
        return Slices((stack,), planes, tiles, math.ceil(math.sqrt(tiles)))
    frames = max(elements.integer("NumberOfFrames") or 1, 1)
    positions = (position,) if position is not None and frames == 1 else ()
    return Slices((Stack(image_type, b, temporal, echo, frames, positions),), planes, frames)


@dataclass(frozen=True)
class _Groups:
    """What one frame's, or the shared, functional groups say; None for what they leave to the others."""

    image_type: tuple[str, ...] | None = None
    b: float | None = None
    temporal: int | None = None
    echo_ms: float | None = None
    plane: Plane | None = None
    place: Elements | None = None  # the Plane Position item

    def over(self, shared: _Groups) -> _Groups:
        """These values, and the shared ones where there is none."""
        pairs = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _Groups(**{name: getattr(shared, name) if own is None else own for name, own in pairs.items()})


def _enhanced(macros: Macros, image_type: tuple[str, ...], manufacturer: str, frames: int | None) -> Slices:
    shared = _groups(macros.shared, manufacturer) if macros.shared else _Groups()
    planes: list[Plane] = []
    found: dict[Stack, list[float]] = {}
    counts: dict[Stack, int] = {}
    for frame in macros.frames:
        groups = _groups(frame, manufacturer).over(shared)
        if groups.plane and not any(same_plane(groups.plane, known) for known in planes):
            planes.append(groups.plane)
        position = _position(groups.place, groups.plane) if groups.place else None
        key = Stack(groups.image_type or image_type, groups.b, groups.temporal, groups.echo_ms)
        counts[key] = counts.get(key, 0) + 1
        found.setdefault(key, []).extend([] if position is None else [position])
    stacks = tuple(
        replace(key, count=counts[key], positions=tuple(sorted(positions))) for key, positions in found.items()
    )
    return Slices(stacks, tuple(planes), len(macros.frames) if frames is None else frames)


def _groups(groups: Elements, manufacturer: str) -> _Groups:
    b = b_value(groups, manufacturer)
    if b is None:
        b = next((b for item in groups.items(_PHILIPS_FRAME) if (b := b_value(item, manufacturer)) is not None), None)
    frame_type = next(iter(groups.items("MRImageFrameTypeSequence")), None)
    echo = next(iter(groups.items("MREchoSequence")), None)
    content = next(iter(groups.items("FrameContentSequence")), None)
    orientation = next(iter(groups.items("PlaneOrientationSequence")), None)
    return _Groups(
        image_type=(frame_type.texts("FrameType") or None) if frame_type else None,
        b=b,
        temporal=content.integer("TemporalPositionIndex") if content else None,
        echo_ms=echo.number("EffectiveEchoTime") if echo else None,
        plane=_plane(orientation) if orientation else None,
        place=next(iter(groups.items("PlanePositionSequence")), None),
    )


def same_plane(one: Plane, other: Plane) -> bool:
    """Whether two orientations are one, within the rounding of DS values."""
    return all(abs(a - b) < 2e-3 for a, b in zip(one, other, strict=True))


def _plane(elements: Elements) -> Plane | None:
    cosines = elements.numbers("ImageOrientationPatient")
    if len(cosines) != 6 or math.hypot(*cosines[:3]) < 0.5 or math.hypot(*cosines[3:]) < 0.5:
        return None
    return cosines


def _position(elements: Elements, plane: Plane | None) -> float | None:
    place = elements.numbers("ImagePositionPatient")
    if len(place) != 3 or plane is None:
        return None
    (a, b, c), (d, e, f) = plane[:3], plane[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return round(sum(n * x for n, x in zip(normal, place, strict=True)), 4)


def _mosaic_images(elements: Elements, image_type: tuple[str, ...]) -> int:
    """How many slices a Siemens mosaic holds: (0019,100A), else the CSA header; 0 for what is no mosaic."""
    if "MOSAIC" not in image_type:
        return 0
    tag = elements.private(0x0019, SIEMENS_MR, 0x0A, trusted=True)
    images = elements.integer(tag, "US") if tag is not None else None
    if images is None and (written := csa_number(elements, "NumberOfImagesInMosaic")) is not None:
        images = int(written)
    return max(images or 0, 0)


def declared_slices(elements: Elements) -> int | None:
    """How many slices a volume of the series has, as vendors declare it: Philips (2001,1018), GE (0021,104F)."""
    for group, creators, offset, binary in (
        (0x2001, PHILIPS_IMAGING, 0x18, "SL"), (0x0021, ("GEMS_RELA_01",), 0x4F, "SS"),
    ):  # fmt: skip
        tag = elements.private(group, creators, offset)
        number = elements.integer(tag, binary) if tag is not None else None
        if number is not None and number > 0:
            return number
    return None


DECLARED_TAGS = [*private_tags(0x2001, 0x18), *private_tags(0x0021, 0x4F)]
