"""A cohort: a folder of prepared subjects that a network is trained and judged on.

    cohort.json          who is in it, in which order, from which anatomy, with which channels
    <subject>/input.npy  float16 (M, z, y, x) in [0, 1], channels in the order of the cohort's roles
    <subject>/target.npy float16 (z, y, x) in [0, 1]: the full dose, normalised by its own brain statistics (paper,
    section 2)
    <subject>/brain.npy  bool (z, y, x)
    <subject>/lesion.npy bool (z, y, x): enhancing lesions, for the tumour-averaged error

The arrays are plain NumPy files, mapped into memory when opened, never pickled. Each subject's record carries the
SHA-256 of its arrays and the cohort's digest is made of those, so a model card that names a digest names these very
numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.volume import Role

FORMAT = 1
INDEX = "cohort.json"
ARRAYS = ("input", "target", "brain", "lesion")
Mask = NDArray[np.bool_]
HalfArray = NDArray[np.float16]


class CohortError(Exception):
    """A cohort folder that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Subject:
    """One subject's arrays: ``input`` (M, z, y, x), ``target``, ``brain`` and ``lesion`` (z, y, x)."""

    input: HalfArray
    target: HalfArray
    brain: Mask
    lesion: Mask


@dataclass(frozen=True)
class SubjectRecord:
    """What the index says of a subject. Subjects of one ``anatomy`` (one head, one patient) never part in a split."""

    name: str
    anatomy: str
    sha256: str


@dataclass(frozen=True)
class Cohort:
    """The subjects of ``folder``, all or some, seen through ``roles``, all or some of those stored."""

    folder: Path
    stored_roles: tuple[Role, ...]
    roles: tuple[Role, ...]
    subjects: tuple[SubjectRecord, ...]

    @classmethod
    def open(cls, folder: Path) -> Cohort:
        """Read the index; arrays are read when a subject is. Raises CohortError for what is no cohort."""
        index = folder / INDEX
        try:
            content = json.loads(index.read_text())
        except FileNotFoundError:
            raise CohortError(f"{folder} is no cohort: it has no {INDEX}; write subjects to it first") from None
        except json.JSONDecodeError as error:
            raise CohortError(f"{index} cannot be read ({error}); build the cohort again") from error
        if content.get("format") != FORMAT:
            raise CohortError(f"{index} has format {content.get('format')!r}, expected {FORMAT}; build it again")
        roles = tuple(Role(role) for role in content["roles"])
        subjects = tuple(SubjectRecord(**record) for record in content["subjects"])
        return cls(folder, roles, roles, subjects)

    @property
    def digest(self) -> str:
        """SHA-256 over the roles and every subject's name, anatomy and arrays."""
        told = json.dumps([self.stored_roles, self.roles, [asdict(record) for record in self.subjects]])
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def anatomies(self) -> tuple[str, ...]:
        """The heads the subjects come from, each once, sorted."""
        return tuple(sorted({record.anatomy for record in self.subjects}))

    def with_roles(self, roles: Sequence[Role]) -> Cohort:
        """The same subjects with only these input channels, in this order."""
        missing = [role.value for role in roles if role not in self.stored_roles]
        if missing:
            raise CohortError(f"{self.folder} holds {', '.join(self.stored_roles)}, not {', '.join(missing)}")
        return replace(self, roles=tuple(roles))

    def split(self, held_out: Collection[str]) -> tuple[Cohort, Cohort]:
        """(the subjects of other anatomies, the subjects of the held-out anatomies)."""
        unknown = set(held_out) - set(self.anatomies)
        if unknown:
            raise CohortError(f"no subject comes from {', '.join(sorted(unknown))}; known: {', '.join(self.anatomies)}")
        train = tuple(record for record in self.subjects if record.anatomy not in held_out)
        test = tuple(record for record in self.subjects if record.anatomy in held_out)
        return replace(self, subjects=train), replace(self, subjects=test)

    def read(self, record: SubjectRecord) -> Subject:
        """The subject's arrays, mapped from disk, its input reduced to ``roles``."""
        arrays = {}
        for name in ARRAYS:
            path = self.folder / record.name / f"{name}.npy"
            try:
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise CohortError(f"{path} cannot be read ({error}); write subject {record.name} again") from error
        if self.roles != self.stored_roles:
            arrays["input"] = arrays["input"][[self.stored_roles.index(role) for role in self.roles]]
        return Subject(**arrays)

    def verify(self) -> None:
        """Read every array and compare it with the index. Raises CohortError for the first that differs."""
        whole = replace(self, roles=self.stored_roles)
        for record in self.subjects:
            if _digest(whole.read(record)) != record.sha256:
                raise CohortError(f"subject {record.name} in {self.folder} is not what {INDEX} says; write it again")


def write_subject(folder: Path, name: str, anatomy: str, roles: Sequence[Role], subject: Subject) -> SubjectRecord:
    """Write one subject and enter it in the index, replacing a subject of that name. The index is renamed into place
    last, so a cohort never names a subject that is not there. Raises CohortError for arrays or roles that do not
    fit."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise CohortError(f"{name!r} cannot name a subject's folder: use letters, digits, '_', '-' and '.'")
    _check(subject, len(roles))
    kept: tuple[SubjectRecord, ...] = ()
    if (folder / INDEX).exists():
        cohort = Cohort.open(folder)
        if cohort.stored_roles != tuple(roles):
            raise CohortError(f"{folder} holds {', '.join(cohort.stored_roles)}, the subject {', '.join(roles)}")
        kept = tuple(record for record in cohort.subjects if record.name != name)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for array in ARRAYS:
        np.save(place / f"{array}.npy", getattr(subject, array), allow_pickle=False)
    record = SubjectRecord(name, anatomy, _digest(subject))
    subjects = sorted((*kept, record), key=lambda one: one.name)
    content = {"format": FORMAT, "roles": list(roles), "subjects": [asdict(one) for one in subjects]}
    content["digest"] = Cohort(folder, tuple(roles), tuple(roles), tuple(subjects)).digest
    draft = folder / f"{INDEX}.part"
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(folder / INDEX)
    return record


def _check(subject: Subject, channels: int) -> None:
    grid = subject.target.shape
    if subject.input.shape != (channels, *grid) or len(grid) != 3:
        raise CohortError(f"input {subject.input.shape} and target {grid} do not fit {channels} roles on one grid")
    for name, array, kind in zip(ARRAYS, (subject.input, subject.target, subject.brain, subject.lesion),
                                 (np.float16, np.float16, np.bool_, np.bool_), strict=True):
        if array.dtype != kind or array.shape[-3:] != grid:
            raise CohortError(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(kind)} on {grid}")
    for name, values in (("input", subject.input), ("target", subject.target)):
        if not (values.min() >= 0 and values.max() <= 1):
            raise CohortError(f"{name} leaves [0, 1] or is not finite: {values.min()} to {values.max()}")
    if not subject.brain.any():
        raise CohortError("the brain mask is empty")


def _digest(subject: Subject) -> str:
    told = hashlib.sha256()
    for name in ARRAYS:
        array = getattr(subject, name)
        told.update(f"{name} {array.dtype.str} {array.shape}".encode())
        told.update(np.ascontiguousarray(array).data)
    return told.hexdigest()
