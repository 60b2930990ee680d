"""Sessions for a cohort from a folder of DICOM files in any nesting, as a PACS exports them or a CD holds them.

Studies are told apart by their UIDs, series by what the node's own rules say of them (``node.roles``); a study must be
complete by the node's own rules, too (``node.complete``), its full dose included. Files that are not DICOM are passed
over. A DICOM Segmentation in a study gives its lesions (``node.cohort_lesions``).
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from model.gather import Session
from node.cohort_lesions import SEGMENTATION_CLASS
from node.cohort_subject import Preparing, SeriesFiles, prepared_subject
from node.complete import different_names, hold_reasons, missing_roles, unusable
from node.files import safe_name
from node.header.instance import HeaderError, InstanceHeader, scan
from node.roles.identify import identify
from node.roles.rules import RoleRules
from node.roles.series_facts import SeriesFacts
from preprocessing.volume import Role

log = logging.getLogger(__name__)
TRUTH = "subject.json"
"""Beside a study that ``quarterdose simulate`` wrote: which head the patient was made from."""


def from_dicom(folder: Path, rules: RoleRules, preparing: Preparing) -> Iterator[Session]:
    """A session per study. Raises ValueError when there is no DICOM file in ``folder``."""
    studies: dict[str, dict[str, tuple[InstanceHeader, Path]]] = defaultdict(dict)
    for header, path in _headers(folder):
        if not header.ours:
            studies[header.study_instance_uid].setdefault(header.sop_instance_uid, (header, path))
    if not studies:
        raise ValueError(f"there is no DICOM file in {folder} or its subfolders")
    for uid in sorted(studies):
        yield _session(uid, list(studies[uid].values()), rules, preparing)


def _headers(folder: Path) -> Iterator[tuple[InstanceHeader, Path]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR"):
        try:
            yield scan(path), path
        except HeaderError as error:
            log.info("%s is passed over: %s", path, error)


def _session(
    uid: str, instances: Iterable[tuple[InstanceHeader, Path]], rules: RoleRules, preparing: Preparing
) -> Session:
    by_series: dict[str, list[tuple[InstanceHeader, Path]]] = defaultdict(list)
    for header, path in instances:
        by_series[header.series_instance_uid].append((header, path))
    facts = {one: SeriesFacts.of(header for header, _ in found) for one, found in by_series.items()}
    decisions = identify(list(facts.values()), rules)
    needed = [role for role in preparing.needed if role is not Role.DWI]
    lacks = (
        *hold_reasons(facts.values()), *different_names(facts.values()), *unusable(decisions, facts.values()),
        *missing_roles(decisions, facts.values(), needed),
    )  # fmt: skip
    roles = {decision.role: series for series, decision in decisions.items() if decision.role is not None}
    files = {role: [path for _, path in by_series[series]] for role, series in roles.items()}
    drawn = tuple(path for found in by_series.values() for header, path in found
                  if header.sop_class_uid == SEGMENTATION_CLASS)  # fmt: skip
    series = SeriesFiles(files, {role: facts[one] for role, one in roles.items()}, drawn)
    lead = next(iter(facts.values())).lead
    patient = safe_name(lead.patient_id or uid)[:12]
    places = [path for found in by_series.values() for _, path in found]
    load = partial(prepared_subject, series, preparing)
    return Session(f"study_{safe_name(uid)[:12]}", patient, _head(places) or patient, lead.study_date, lacks, load)


def _head(places: Iterable[Path]) -> str:
    """The head a simulated patient was made from, which several may share; "" for anybody else."""
    for folder in {path.parent.parent for path in places}:
        truth = folder / TRUTH
        if truth.is_file():
            return str(json.loads(truth.read_text(encoding="utf-8")).get("head", ""))
    return ""
