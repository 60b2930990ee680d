"""The whole path on one machine: a simulated patient, an archive that stands for the PACS, and this node.

scanner → archive → (routing) → node → archive: what `quarterdose demo` shows, step by step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.metrics import l2, psnr
from node.database import open_database
from node.errors import CommandError
from node.files import DataFolder
from node.panel import Column, draw_panel
from node.report import describe_study
from node.scu import StorageScu
from node.sender import Outgoing
from node.stage import Pacs, Stage, running
from node.states import State
from node.tables import Study
from preprocessing.bias import correct_bias
from preprocessing.convert import convert_series
from preprocessing.grid import NETWORK_GRID
from preprocessing.nifti import read_nifti
from preprocessing.normalise import scale_of
from preprocessing.prepare import on_network_grid
from preprocessing.register import rigid
from preprocessing.resample import Matrix, inverse, resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import FloatArray, Role, Volume
from preprocessing.volume_file import load_volume
from simulator.heads import AnatomyError
from simulator.study import StudyFiles, simulate_subject, write_study

_GIVE_UP_SECONDS = 900.0


@dataclass(frozen=True)
class Result:
    """Where everything is, and how good it is against the full dose that was simulated too."""

    folder: Path
    panel: Path
    key: str
    virtual_psnr: float
    low_dose_psnr: float

    def lines(self) -> list[str]:
        """For a person."""
        config = self.folder / "config.toml"
        us = sys.argv[0] if sys.argv[0].endswith("quarterdose") else "quarterdose"  # as it was called: copy and paste
        return [
            f"  picture         {self.panel}",
            f"  node's data     {self.folder / 'var'}  (log: {self.folder / 'node.log'})",
            f"  inside the brain, against the full dose: virtual {self.virtual_psnr:.1f} dB, "
            f"low dose as it is {self.low_dose_psnr:.1f} dB",
            "next:",
            f"  {us} studies show {self.key[:8]} --config {config}",
            f"  {us} demo --seed 8          another patient",
            f"  {us} demo --pacs orthanc    the same against a real Orthanc",
        ]


@dataclass(frozen=True)
class Demonstration:
    """One run. ``say`` gets a line for each step, ``progress`` what is being done and the share of it, 0 … 1."""

    out: Path
    config: Path
    pacs: str
    seed: int
    anatomy: Path | None
    say: Callable[[str], None]
    progress: Callable[[str, float], None]

    def run(self) -> Result:
        """Do it all. Raises CommandError, with where to look, when it does not reach the end."""
        stage = Stage.build(self.out, self.config)
        self.say(f"simulating patient {self.seed}")
        try:
            subject = simulate_subject(self.seed, self.anatomy)
        except AnatomyError as error:
            raise CommandError(str(error)) from error
        truth = write_study(subject, stage.folder / "scanner", progress=self._scanned)
        files = truth.files
        self.say(f"the scanner has made {len(files)} instances")
        self.say(f"starting the node and {'a real Orthanc' if self.pacs == 'orthanc' else 'the archive'}")
        with running(stage, self.pacs) as pacs:
            self.say(f"the scanner sends to {stage.pacs}, which routes to {stage.settings.node.ae_title}")
            self._send(stage, files)
            report = self._watch(stage, truth.study_instance_uid)
            virtual = self._fetch(stage, pacs, report)
        self.say("drawing the picture")
        return compare(stage, truth, virtual, report["key"])

    def _scanned(self, series: str, done: int, of: int) -> None:
        self.progress(f"scanning {series}", done / of)

    def _send(self, stage: Stage, files: list[Path]) -> None:
        outgoing = [Outgoing.of(path) for path in files]
        with StorageScu(stage.pacs, outgoing) as scu:
            for done, file in enumerate(outgoing, 1):
                scu.store(file)
                self.progress("sending to the PACS", done / len(outgoing))

    def _watch(self, stage: Stage, study_instance_uid: str) -> dict[str, Any]:
        """Tell every event of the study as it happens, until it is delivered; returns its report."""
        engine = open_database(stage.settings)
        told = 0
        end = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < end:
            with Session(engine) as session:
                study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
                report = describe_study(session, study) if study else None
            if report is not None:
                for event in report["events"][told:]:
                    self.say(f"{event['what']}: {event['why']}")
                told = len(report["events"])
                self.progress(report["doing"] or report["state"].lower(), report["progress"])
                if report["state"] == State.DELIVERED:
                    return report
                if report["state"] in (State.REJECTED, State.FAILED, State.INCOMPLETE, State.CANCELLED):
                    raise CommandError(f"the study is {report['state']}: {report['reason']}")
            time.sleep(0.25)
        raise CommandError(f"not delivered within {_GIVE_UP_SECONDS:g} s; {stage.folder / 'node.log'} tells more")

    def _fetch(self, stage: Stage, pacs: Pacs, report: dict[str, Any]) -> list[Path]:
        """The virtual series as the PACS holds it."""
        wanted = {made["series_instance_uid"] for made in report["derived"] if made["kind"] == "enhanced_mr"}
        held = pacs.files(report["study_instance_uid"], stage.folder / "from-pacs")
        found = [path for path in held if dcmread(path, stop_before_pixels=True).SeriesInstanceUID in wanted]
        if not found:
            raise CommandError("the node says that it delivered, but the PACS does not hold the virtual series")
        self.say(f"the PACS holds {len(held)} instances of the study, {len(found)} of them virtual")
        return found


def compare(stage: Stage, truth: StudyFiles, virtual_files: list[Path], key: str) -> Result:
    """Draw the panel from what the node prepared and from the virtual series as the PACS holds it, and measure."""
    work = DataFolder(stage.settings.node.data).work(key, 1)
    prepared = PreparedStudy.load(work.prepared)
    brain, inputs = prepared.brain, dict(zip(prepared.channels, prepared.input, strict=True))
    scale = prepared.scales[Role.LOW_DOSE]

    full_dose = convert_series(sorted(truth.full_dose.iterdir())).volumes[0]
    to_full_dose = _to_full_dose(full_dose, load_volume(work.converted(Role.T1)), prepared)
    full = correct_bias(resample(full_dose, like=NETWORK_GRID, transform=to_full_dose), brain).array
    full = np.where(brain, scale_of(full, brain, scale.low, scale.high).to_unit(full), 0).astype(np.float32)
    virtual_series = convert_series(virtual_files).volumes[0]
    virtual = resample(virtual_series, like=NETWORK_GRID, transform=prepared.transforms[Role.LOW_DOSE]).array
    virtual = np.where(brain, scale.to_unit(virtual), 0).astype(np.float32)
    bright = _window(full, brain)
    columns = [
        Column("T1", inputs[Role.T1], *_window(inputs[Role.T1], brain)),
        Column("T2-FLAIR", inputs[Role.FLAIR], *_window(inputs[Role.FLAIR], brain)),
        Column("ADC", inputs[Role.ADC], *_window(inputs[Role.ADC], brain)),
        Column("low-dose T1ce", inputs[Role.LOW_DOSE], *bright),
        Column("virtual T1ce", virtual, *bright),
        Column("full-dose T1ce", full, *bright),
    ]
    panel = stage.folder / "panel.png"
    lesion = np.zeros_like(brain)
    if truth.lesion:
        mask = read_nifti(truth.lesion)
        lesion = on_network_grid(mask.array > 0.5, mask.geometry, to_full_dose)
    draw_panel(panel, columns, brain, lesion)
    return Result(
        stage.folder, panel, key, psnr(l2(virtual, full, brain)), psnr(l2(inputs[Role.LOW_DOSE], full, brain))
    )


def _to_full_dose(full_dose: Volume, t1: Volume, prepared: PreparedStudy) -> Matrix:
    """From the network's grid to the full dose. A patient moves between two series, so it is registered to the T1 as
    the inputs are (paper, section 2)."""
    to_t1 = prepared.transforms[Role.T1]
    mask = Volume(prepared.brain.astype(np.float32), NETWORK_GRID)
    brain = resample(mask, like=t1.geometry, transform=inverse(to_t1)).array > 0.5
    return rigid(t1, brain, full_dose) @ to_t1


def _window(image: FloatArray, brain: NDArray[np.bool_]) -> tuple[float, float]:
    low, high = np.percentile(image[brain], [0.5, 99.7])
    return float(low), float(high)
