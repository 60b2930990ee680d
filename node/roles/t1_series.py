"""T1-weighted series of one study beside each other: which are runs of one protocol, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from node.roles.series_facts import SeriesFacts
from node.roles.weighting import Weighting

# TR, TE and flip angle within this share of each other: scanners adapt them a little from run to run.
_SAME_PROTOCOL = 0.2


@dataclass(frozen=True)
class T1Series:
    """A T1 series and what it shows."""

    facts: SeriesFacts
    weighting: Weighting

    def like(self, other: T1Series) -> bool:
        """Whether both are runs of one protocol: the same sequence, 2D or 3D, and times and flip angle alike.

        Only such series can be compared across injections: an angiography is a spoiled gradient echo too.
        """
        ours, theirs = self.facts.lead, other.facts.lead
        if (self.weighting.family, ours.mr_acquisition_type) != (other.weighting.family, theirs.mr_acquisition_type):
            return False
        pairs = (ours.tr_ms, theirs.tr_ms), (ours.te_ms, theirs.te_ms), (ours.flip_deg, theirs.flip_deg)
        return all(_close(one, another) for one, another in pairs)


def timed(series: Sequence[T1Series]) -> bool:
    """Whether each says when it was acquired."""
    return all(one.facts.acquired for one in series)


def together(one: T1Series, other: T1Series) -> bool:
    """Whether both were reconstructed from one acquisition: it began at the same time."""
    return bool(one.facts.acquired) and one.facts.acquired == other.facts.acquired


def in_time(series: Sequence[T1Series]) -> list[T1Series]:
    """In the order of acquisition; by series number where any of them has no time."""
    by_time = timed(series)
    return sorted(series, key=lambda one: (
        one.facts.acquired if by_time else "", one.facts.lead.series_number or 0, one.facts.uid))  # fmt: skip


def acquisitions(protocol: Sequence[T1Series]) -> list[list[T1Series]]:
    """Series by when they were acquired: one acquisition may be reconstructed twice, with and without a filter."""
    found: list[list[T1Series]] = []
    for one in protocol:
        if found and one.facts.acquired and one.facts.acquired == found[-1][0].facts.acquired:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def secondary(one: T1Series) -> bool:
    """Calculated from other images (PS3.3 C.7.6.1.1.2, Image Type value 2)."""
    return one.facts.lead.image_type[1:2] == ("SECONDARY",)


def minutes(one: T1Series, other: T1Series) -> float:
    """Minutes from the one to the other; both must be timed."""
    gap = datetime.fromisoformat(other.facts.acquired) - datetime.fromisoformat(one.facts.acquired)
    return gap.total_seconds() / 60


def voxel_volume(one: T1Series) -> float:
    """mm³; 0 when not known."""
    row, column, spacing = one.facts.voxel
    return row * column * spacing


def _close(one: float | None, other: float | None) -> bool:
    """Within a fifth of each other; what is not written does not speak against it."""
    return one is None or other is None or abs(one - other) <= _SAME_PROTOCOL * max(abs(one), abs(other))
