"""What the headers of one series say together: the ground on which its role and its completeness are judged."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from node.header.frames import Plane, Stack, same_plane
from node.header.instance import InstanceHeader

# Slices closer than this are at one place: DS values are rounded, and vendors compute them per image.
SAME_PLACE_MM = 0.1


@dataclass(frozen=True)
class SeriesFacts:
    """One series. ``lead`` is its first instance, ``headers`` are all of them, each SOP instance once, in order.

    ``stacks`` holds every stack of all instances, merged by what their slices have in common.
    """

    lead: InstanceHeader
    headers: tuple[InstanceHeader, ...]
    stacks: tuple[Stack, ...]
    ae_title: str = ""

    @classmethod
    def of(cls, headers: Iterable[InstanceHeader], ae_title: str = "") -> SeriesFacts:
        """Gather the headers of one series; ``ae_title`` is who sent it, for site rules.

        Raises ValueError for no header, or for headers of different series.
        """
        unique = {header.sop_instance_uid: header for header in headers}
        ordered = sorted(unique.values(), key=lambda h: (h.instance_number or 0, h.sop_instance_uid))
        if not ordered:
            raise ValueError("a series needs at least one instance")
        if len({header.series_instance_uid for header in ordered}) > 1:
            raise ValueError("the headers belong to different series")
        return cls(ordered[0], tuple(ordered), _merged(ordered), ae_title)

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.lead.series_instance_uid

    @property
    def name(self) -> str:
        """How the series is called in sentences: "series 4", with its UID where it has no number."""
        number = self.lead.series_number
        return f"series {number}" if number is not None else f"series {self.uid}"

    @property
    def b_values(self) -> tuple[float, ...]:
        """The different b-values in s/mm², ascending."""
        return tuple(sorted({stack.b_value for stack in self.stacks if stack.b_value is not None}))

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The different orientations of its slices."""
        found: list[Plane] = []
        for header in self.headers:
            found += [new for new in header.orientations if not any(same_plane(new, known) for known in found)]
        return tuple(found)

    @property
    def acquired(self) -> str:
        """When its first image was measured (ISO 8601), or ""."""
        return min((header.acquired for header in self.headers if header.acquired), default="")

    @property
    def spacing(self) -> float:
        """mm from slice to slice: between the places found, else as declared; 0 when neither is known."""
        found = places(self.stacks)
        gaps = [after - before for before, after in pairwise(found)]
        return median(gaps) if gaps else self.lead.slice_spacing or self.lead.slice_thickness or 0.0

    @property
    def voxel(self) -> tuple[float, float, float]:
        """Row spacing, column spacing and slice spacing in mm; 0 where not known."""
        row, column = self.lead.pixel_spacing if len(self.lead.pixel_spacing) == 2 else (0.0, 0.0)
        return row, column, self.spacing

    def with_stacks(self, stacks: tuple[Stack, ...]) -> SeriesFacts:
        """The same series, seen without some of its images."""
        return replace(self, stacks=stacks)


def places(stacks: Iterable[Stack]) -> list[float]:
    """The different slice positions in mm, ascending; positions within SAME_PLACE_MM are one."""
    found: list[float] = []
    for position in sorted(position for stack in stacks for position in stack.positions):
        if not found or position - found[-1] > SAME_PLACE_MM:
            found.append(position)
    return found


def images_per_slice(stacks: Iterable[Stack]) -> int:
    """How many images the best-covered place has: 1 for one volume."""
    stacks = tuple(stacks)
    positions = sorted(position for stack in stacks for position in stack.positions)
    most, start = 0, -math.inf
    count = 0
    for position in positions:
        if position - start > SAME_PLACE_MM:
            start, count = position, 0
        count += 1
        most = max(most, count)
    return most


def _merged(headers: Iterable[InstanceHeader]) -> tuple[Stack, ...]:
    merged: dict[Stack, Stack] = {}
    for stack in (stack for header in headers for stack in header.stacks):
        key = replace(stack, count=0, positions=())
        known = merged.get(key, key)
        merged[key] = replace(known, count=known.count + stack.count, positions=(*known.positions, *stack.positions))
    return tuple(replace(stack, positions=tuple(sorted(stack.positions))) for stack in merged.values())
