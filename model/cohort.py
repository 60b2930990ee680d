"""A cohort: a folder of prepared subjects that a network is trained and judged on.

    cohort.json          who is in it, in which order, from which anatomy, with which channels
    <subject>/input.npy  float16 (M, z, y, x) in [0, 1], channels in the order of the cohort's roles
    <subject>/target.npy float16 (z, y, x) in [0, 1]: the full dose, normalised by its own brain statistics (paper,
    section 2)
    <subject>/brain.npy  bool (z, y, x)
    <subject>/lesion.npy bool (z, y, x): enhancing lesions, for the tumour-averaged error; empty where none is known
    <subject>/scales.json how to go back from [0, 1] to each series' own units, where that is known
    left_out.json        who is not in it and why

The arrays are plain NumPy files, mapped into memory when opened, never pickled. Each subject's record carries the
SHA-256 of its arrays and the cohort's digest is made of those, so a model card that names a digest names these very
numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.normalise import IntensityScale
from preprocessing.volume import Role

FORMAT = 1
INDEX = "cohort.json"
LEFT_OUT = "left_out.json"
SCALES = "scales.json"
ARRAYS = ("input", "target", "brain", "lesion")
Mask = NDArray[np.bool_]
HalfArray = NDArray[np.float16]


class CohortError(Exception):
    """A cohort folder that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Subject:
    """One subject's arrays: ``input`` (M, z, y, x), ``target``, ``brain`` and ``lesion`` (z, y, x); the ``scales``
    between [0, 1] and the units of each series, full dose included, None where nobody kept them; and what ``quality``
    control said of the study, empty where nobody asked."""

    input: HalfArray
    target: HalfArray
    brain: Mask
    lesion: Mask
    scales: Mapping[Role, IntensityScale] | None = None
    quality: str = ""


@dataclass(frozen=True)
class SubjectRecord:
    """What the index says of a subject. Subjects of one ``anatomy`` (one head) or one ``patient`` (a pseudonym, empty
    where each subject is a patient of its own) never part in a split. ``quality`` is no part of any digest."""

    name: str
    anatomy: str
    sha256: str
    patient: str = ""
    quality: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A session that is not in the cohort, as the paper leaves out incomplete, repeated and rejected ones (section 2,
    "Data and preprocessing")."""

    session: str
    patient: str
    why: str


@dataclass(frozen=True)
class Cohort:
    """The subjects of ``folder``, all or some, seen through ``roles``, all or some of those stored."""

    folder: Path
    stored_roles: tuple[Role, ...]
    roles: tuple[Role, ...]
    subjects: tuple[SubjectRecord, ...]
    voxel_mm: float = 1.0
    """Side of a voxel: 1 for the paper's grid, more where it was shrunk."""

    @classmethod
    def open(cls, folder: Path) -> Cohort:
        """Read the index; arrays are read when a subject is. Raises CohortError for what is no cohort."""
        index = folder / INDEX
        try:
            content = json.loads(index.read_text())
            if "scanner" in content:  # the simulator writes a list of that name, too
                raise CohortError(f"{folder} is simulated, not prepared yet: `cohort add` takes it, --from-simulator")
            if content["format"] != FORMAT:
                raise CohortError(f"{index} has format {content['format']!r}, expected {FORMAT}; build it again")
            roles = tuple(Role(role) for role in content["roles"])
            subjects = tuple(SubjectRecord(**record) for record in content["subjects"])
            return cls(folder, roles, roles, subjects, float(content.get("voxel_mm", 1.0)))
        except FileNotFoundError:
            raise CohortError(f"{folder} is no cohort: it has no {INDEX}; write subjects to it first") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CohortError(f"{index} cannot be read ({error}); build the cohort again") from error

    @property
    def digest(self) -> str:
        """SHA-256 over the roles and every subject's name, anatomy and arrays."""
        records = [asdict(replace(one, quality="")) for one in self.subjects]
        records = [{name: value for name, value in one.items() if value} for one in records]
        told = json.dumps([self.stored_roles, self.roles, records])
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def anatomies(self) -> tuple[str, ...]:
        """The heads the subjects come from, each once, sorted."""
        return tuple(sorted({record.anatomy for record in self.subjects}))

    @property
    def whole(self) -> Cohort:
        """The same subjects with every input channel that is stored."""
        return replace(self, roles=self.stored_roles)

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
            except (OSError, ValueError, EOFError) as error:
                raise CohortError(f"{path} cannot be read ({error}); write subject {record.name} again") from error
        if self.roles != self.stored_roles:
            arrays["input"] = arrays["input"][[self.stored_roles.index(role) for role in self.roles]]
        path = self.folder / record.name / SCALES
        try:
            scales = _read_scales(path)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CohortError(f"{path} cannot be read ({error}); write subject {record.name} again") from error
        return Subject(**arrays, scales=scales, quality=record.quality)

    def verify(self) -> None:
        """Read every array and compare it with the index. Raises CohortError for the first that differs."""
        for record in self.subjects:
            if _digest(self.whole.read(record)) != record.sha256:
                raise CohortError(f"subject {record.name} in {self.folder} is not what {INDEX} says; write it again")


def write_subject(
    folder: Path,
    name: str,
    anatomy: str,
    roles: Sequence[Role],
    subject: Subject,
    *,
    patient: str = "",
    voxel_mm: float = 1.0,
) -> SubjectRecord:
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
        if cohort.voxel_mm != voxel_mm:
            raise CohortError(f"{folder} has voxels of {cohort.voxel_mm} mm, the subject {voxel_mm} mm")
        kept = tuple(record for record in cohort.subjects if record.name != name)
        if kept and (grid := cohort.read(kept[0]).brain.shape) != subject.brain.shape:
            raise CohortError(f"{folder} has volumes of {grid} voxels, the subject of {subject.brain.shape}")
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for array in ARRAYS:
        np.save(place / f"{array}.npy", getattr(subject, array), allow_pickle=False)
    if subject.scales is None:
        (place / SCALES).unlink(missing_ok=True)
    else:
        (place / SCALES).write_text(_scales_text(subject.scales))
    record = SubjectRecord(name, anatomy, _digest(subject), patient, subject.quality)
    subjects = tuple(sorted((*kept, record), key=lambda one: one.name))
    _write_index(Cohort(folder, tuple(roles), tuple(roles), subjects, voxel_mm))
    return record


def drop_subject(folder: Path, name: str) -> None:
    """Take a subject out of the index, then off the disk. Raises CohortError if there is none of that name."""
    cohort = Cohort.open(folder)
    if name not in {record.name for record in cohort.subjects}:
        raise CohortError(f"{folder} has no subject {name}")
    _write_index(replace(cohort, subjects=tuple(record for record in cohort.subjects if record.name != name)))
    shutil.rmtree(folder / name)


def left_out(folder: Path) -> tuple[LeftOut, ...]:
    """Who is not in the cohort and why, by session. Raises CohortError for a list that cannot be read."""
    path = folder / LEFT_OUT
    try:
        return tuple(LeftOut(**entry) for entry in json.loads(path.read_text())) if path.exists() else ()
    except (ValueError, TypeError) as error:
        raise CohortError(f"{path} cannot be read ({error}); delete it, then add the sessions again") from error


def note_left_out(folder: Path, sessions: Collection[LeftOut]) -> None:
    """Add to the list of those left out; what is said of a session now replaces what was said before, and nothing
    remains of one that has since become a subject."""
    there = {record.name for record in Cohort.open(folder).subjects} if (folder / INDEX).exists() else set()
    entries = {entry.session: entry for entry in (*left_out(folder), *sessions) if entry.session not in there}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / LEFT_OUT, json.dumps([asdict(entries[name]) for name in sorted(entries)], indent=1) + "\n")


def _write_index(cohort: Cohort) -> None:
    content = {
        "format": FORMAT, "roles": list(cohort.stored_roles), "voxel_mm": cohort.voxel_mm,
        "subjects": [asdict(record) for record in cohort.subjects], "digest": cohort.digest,
    }  # fmt: skip
    _replace(cohort.folder / INDEX, json.dumps(content, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(text)
    draft.replace(path)


def _scales_text(scales: Mapping[Role, IntensityScale]) -> str:
    return json.dumps({role.value: asdict(scales[role]) for role in sorted(scales)})


def _read_scales(path: Path) -> dict[Role, IntensityScale] | None:
    if not path.exists():
        return None
    return {Role(role): IntensityScale(**scale) for role, scale in json.loads(path.read_text()).items()}


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
    if subject.scales is not None:
        told.update(_scales_text(subject.scales).encode())
    return told.hexdigest()
