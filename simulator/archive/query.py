"""Matching of the Query/Retrieve service, study root (PS3.4 C.2.2.2, C.6.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from simulator.archive.index import IMAGE_KEYS, SERIES_KEYS, STUDY_KEYS, StoredInstance

UNIQUE_KEYS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_ENTITIES: dict[str, tuple[Callable[[StoredInstance], str], tuple[str, ...]]] = {
    "STUDY": (lambda instance: instance.study_uid, STUDY_KEYS),
    "SERIES": (lambda instance: instance.series_uid, (*STUDY_KEYS, *SERIES_KEYS)),
    "IMAGE": (lambda instance: instance.sop_instance_uid, (*STUDY_KEYS, *SERIES_KEYS, *IMAGE_KEYS)),
}


def find(identifier: Dataset, instances: Iterable[StoredInstance]) -> Iterator[Dataset]:
    """The response identifiers for a C-FIND request, with the keys that were asked for.

    Raises ``ValueError`` for a level that study root does not have.
    """
    level = level_of(identifier)
    entity_of, keywords = _ENTITIES[level]
    entities: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        entities.setdefault(entity_of(instance), []).append(instance)
    for members in entities.values():
        record = _record(level, members, keywords)
        if all(_matches(element.VR, element.value, record.get(element.keyword)) for element in _keys(identifier)):
            yield _answer(level, identifier, record)


def select(identifier: Dataset, instances: Iterable[StoredInstance]) -> list[StoredInstance]:
    """The instances that a C-MOVE or C-GET request names by its unique keys; none if it names nothing at its level.

    Raises ``ValueError`` for a level that study root does not have.
    """
    if not identifier.get(UNIQUE_KEYS[level_of(identifier)]):
        return []
    return [
        instance for instance in instances
        if all(_matches("UI", identifier.get(key), instance.fields.get(key)) for key in UNIQUE_KEYS.values())
    ]


def level_of(identifier: Dataset) -> str:
    """Query/Retrieve Level (0008,0052) of the request; ``ValueError`` if it is not one of study root."""
    level = str(identifier.get("QueryRetrieveLevel") or "")
    if level not in _ENTITIES:
        raise ValueError(f"Query/Retrieve Level {level!r} is not STUDY, SERIES or IMAGE")
    return level


def _keys(identifier: Dataset) -> Iterator[DataElement]:
    for element in identifier:
        if element.keyword not in ("QueryRetrieveLevel", "SpecificCharacterSet") and element.VR != "SQ":
            yield element


def _record(level: str, members: list[StoredInstance], keywords: tuple[str, ...]) -> Dataset:
    record = Dataset()
    for keyword in keywords:
        if keyword in members[0].fields:
            record[keyword] = members[0].fields[keyword]
    if level == "STUDY":
        record.ModalitiesInStudy = sorted({str(member.fields.get("Modality") or "") for member in members} - {""})
        record.NumberOfStudyRelatedSeries = len({member.series_uid for member in members})
        record.NumberOfStudyRelatedInstances = len(members)
    if level == "SERIES":
        record.NumberOfSeriesRelatedInstances = len(members)
    return record


def _answer(level: str, identifier: Dataset, record: Dataset) -> Dataset:
    answer = Dataset()
    for element in _keys(identifier):
        if element.keyword in record:
            answer[element.keyword] = record[element.keyword]
        else:
            answer.add_new(element.tag, element.VR, None)
    answer.QueryRetrieveLevel = level
    if "SpecificCharacterSet" in record:
        answer.SpecificCharacterSet = record.SpecificCharacterSet
    return answer


def _matches(vr: str, wanted: object, found: object) -> bool:
    """One key: universal, list of UIDs, range, wild card or single value matching (PS3.4 C.2.2.2.1 to .5)."""
    if wanted is None or str(wanted) in ("", "*"):
        return True
    values = [str(value) for value in found] if isinstance(found, MultiValue | list) else [str(found or "")]
    if vr == "UI":
        return bool(set(values) & set(_list(wanted)))
    if vr in ("DA", "TM", "DT") and "-" in str(wanted):
        low, _, high = str(wanted).partition("-")
        return any(value and (not low or value >= low) and (not high or value[: len(high)] <= high) for value in values)
    return any(
        re.fullmatch(_pattern(one), value, re.IGNORECASE if vr == "PN" else 0)
        for one in _list(wanted) for value in values
    )


def _list(wanted: object) -> list[str]:
    return [str(value) for value in wanted] if isinstance(wanted, MultiValue | list) else [str(wanted)]


def _pattern(wanted: str) -> str:
    return re.escape(wanted.rstrip(" ")).replace(r"\*", ".*").replace(r"\?", ".")
