"""From the virtual volume to DICOM objects that nobody can mistake for an acquired series.

The objects lie on the grid and in the Frame of Reference of the low-dose series they stand for, belong to its study,
and depend on nothing but their inputs: the same sources, weights and provenance give the same UIDs and the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from node.derive import capture, enhanced
from node.derive.provenance import Provenance, is_ours
from node.derive.source import Instance, SourceSeries, in_source_order, read_instances, read_source
from preprocessing.volume import FloatArray, Role, Volume

__all__ = ["KINDS", "SOP_CLASSES", "DerivedSeries", "Provenance", "derive", "is_ours"]

_Maker = Callable[[FloatArray, SourceSeries, Iterable[Instance], Provenance], Dataset]
_MAKERS: dict[str, _Maker] = {
    enhanced.KIND: enhanced.enhanced_mr,
    capture.KIND: capture.secondary_capture,
}
KINDS = tuple(_MAKERS)
SOP_CLASSES = {enhanced.KIND: enhanced.SOP_CLASS, capture.KIND: capture.SOP_CLASS}


@dataclass(frozen=True)
class DerivedSeries:
    """One series to deliver: ``datasets`` have file meta information and are ready for ``save_as`` or C-STORE."""

    kind: str
    series_instance_uid: str
    datasets: tuple[Dataset, ...]


def derive(
    virtual: Volume,
    sources: Sequence[Path],
    other_sources: Mapping[Role, Sequence[Path]],
    provenance: Provenance,
    kinds: Sequence[str],
) -> tuple[DerivedSeries, ...]:
    """One series for each of ``kinds``.

    ``virtual`` lies on the grid of the low-dose series whose files are ``sources``, in that series' signal units, zero
    outside the brain. ``other_sources`` are the files of the other roles that were inputs; they are referred to.

    Raises ``ValueError`` for an unknown kind, sources that are not one volume or have no Frame of Reference, and a
    virtual volume that lies elsewhere or is not finite.
    """
    unknown = [kind for kind in kinds if kind not in _MAKERS]
    if unknown:
        raise ValueError(f"unknown kind of derived series {unknown[0]!r}; known: {', '.join(KINDS)}")
    source = read_source(sources)
    if not source.header.get("FrameOfReferenceUID"):
        raise ValueError("the low-dose series has no Frame of Reference UID: a series that lines up cannot be made")
    others = tuple(instance for role in sorted(other_sources) for instance in _sorted(other_sources[role]))
    array = in_source_order(virtual, source)
    datasets = [(kind, _MAKERS[kind](array, source, others, provenance)) for kind in kinds]
    return tuple(DerivedSeries(kind, str(dataset.SeriesInstanceUID), (dataset,)) for kind, dataset in datasets)


def _sorted(paths: Sequence[Path]) -> list[Instance]:
    """By UID: the order in which the files were listed must not show in the bytes."""
    return sorted(read_instances(paths), key=lambda instance: instance.sop_instance_uid)
