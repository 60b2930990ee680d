"""Many small studies out of one: other UIDs, another patient and other pixels in each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from model.card import ModelCard
from model.network import Head, SynthesisNetwork
from model.store import write_weights
from preprocessing.role import Role
from simulator.acquisition import acquire
from simulator.dicom.identity import Examination
from simulator.dicom.series import stored
from simulator.kinetics import Injection
from simulator.protocol import LOW_DOSE, Kind, SeriesPlan, axial_grid
from simulator.scanner import Scanner
from simulator.sequences import Mprage
from simulator.study import start_of, write_series
from simulator.subject import simulate_subject

_ROLES = (Role.T1, Role.LOW_DOSE)
_PREAMBLE = 132  # preamble and "DICM", then (0002,0000), whose value says how long the rest of group 2 is


@dataclass(frozen=True)
class ChaosStudy:
    """One study to send: its files, and whether it is one that the node has to process."""

    study_instance_uid: str
    files: tuple[Path, ...]
    complete: bool


def simulate_template(folder: Path) -> list[Path]:
    """A simulated head's T1 and low-dose T1, small: 34 axial slices of 104 × 96 at 2 × 2 × 5 mm, 25 KB each."""
    subject, scanner = simulate_subject(1), Scanner()
    grid = axial_grid(np.eye(3), (96, 104), 2.0, 5.0, np.array([0.0, 6.0, 18.0]))
    quarter = Injection(16.0, LOW_DOSE)
    plans = (
        SeriesPlan(Kind.T1, 2, 2.0, 4.7, Mprage(), grid, 5.0, "t1_mprage_tra"),
        SeriesPlan(Kind.LOW_DOSE, 6, 18.5, 4.7, Mprage(), grid, 5.0, "t1_mprage_tra_gd_low", (quarter,)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    examination = Examination("chaos", subject.person, scanner, start_of(1))
    for acquired in acquire(subject, scanner, plans):
        write_series(examination, stored(acquired, scanner, 1.0), folder)
    return sorted(folder.rglob("*.dcm"))


def multiply(template: Sequence[Path], count: int, complete: int, folder: Path) -> list[ChaosStudy]:
    """``count`` studies, the first ``complete`` of them whole, the others without the series after contrast."""
    slices = [dcmread(path) for path in template]
    return [_study(slices, number, number < complete, folder / f"{number:04d}") for number in range(count)]


def _study(slices: Sequence[Dataset], number: int, complete: bool, folder: Path) -> ChaosStudy:
    folder.mkdir(parents=True)
    files = []
    for position, original in enumerate(slices):
        if not complete and "ContrastBolusAgent" in original:
            continue
        dataset = _relabelled(original, number)
        files.append(folder / f"{position:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return ChaosStudy(_other_uid(slices[0].StudyInstanceUID, number), tuple(files), complete)


def _relabelled(original: Dataset, number: int) -> Dataset:
    dataset = deepcopy(original)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, _other_uid(original[keyword].value, number))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientID, dataset.PatientName = f"CHAOS{number:04d}", f"CHAOS^{number:04d}"
    dataset.AccessionNumber = f"C{number:06d}"
    pixels = np.frombuffer(original.PixelData, np.uint16).astype(np.float64)
    # A gain of the study's own, so that results mixed between studies would show.
    dataset.PixelData = np.rint(pixels * (0.8 + 0.001 * number)).clip(0, 4095).astype("<u2").tobytes()
    return dataset


def _other_uid(uid: str, number: int) -> str:
    return str(generate_uid(entropy_srcs=[uid, str(number)]))


def dataset_digest(path: Path) -> str:
    """SHA-256 of a file's data set, which goes over the wire; its preamble and group 2 are whoever's wrote the file."""
    content = path.read_bytes()
    length = int.from_bytes(content[_PREAMBLE + 8 : _PREAMBLE + 12], "little")
    return hashlib.sha256(content[_PREAMBLE + 12 + length :]).hexdigest()


def write_small_model(folder: Path) -> None:
    """Weights of the product's network with C = 1 and random numbers in them: a real synthesis in the least time."""
    torch.manual_seed(0)
    network = SynthesisNetwork(len(_ROLES), 1, Head.RESIDUAL, _ROLES.index(Role.LOW_DOSE))
    digest = write_weights(folder, network, _ROLES)
    limits = ("for nobody: it was not trained",)
    ModelCard("chaos", "A network for the chaos run.", digest, "", "", "", ("not trained",), (), limits).write(folder)
