"""What a person watches while a network learns: previews of one subject, and TensorBoard where it is asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from model.cohort import Cohort
from model.intensity import on_shared_scale
from model.pictures import FULL_DOSE, TITLES, Row, draw
from model.sampling import seeded
from model.train import TrainingError, TrainingProgress
from model.training_settings import TrainingSettings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Watch:
    """Called after every step. Draws ``preview-STEP.png`` into ``folder`` after 1, 2, 4, 8 … epochs and at the end, so
    that most come early; with ``tensorboard`` writes loss and learning speed beside them. Changes nothing about the
    training."""

    def __init__(self, cohort: Cohort, settings: TrainingSettings, folder: Path, *, tensorboard: bool = False) -> None:
        self._settings, self._folder = settings, folder
        self._row = _shown(cohort.with_roles(settings.roles), settings)
        self._epoch = math.ceil(len(cohort.subjects) / settings.batch)
        self._writer = _writer(folder / "tensorboard") if tensorboard else None

    def __call__(self, progress: TrainingProgress) -> None:
        if self._writer is not None:
            self._writer.add_scalar("loss", progress.loss, progress.step)
            self._writer.add_scalar("seconds", progress.seconds, progress.step)
        epochs, rest = divmod(progress.step, self._epoch)
        doubled = rest == 0 and epochs & (epochs - 1) == 0
        if doubled or progress.step == progress.steps:
            self._draw(progress)
            if self._writer is not None:
                self._writer.flush()

    def _draw(self, progress: TrainingProgress) -> None:
        row, inputs = self._row
        virtual = _answer(progress.network, inputs)
        drawn = {title: image for title, image in row.images.items() if title != FULL_DOSE}
        drawn |= {"virtual T1ce": np.where(row.brain, virtual, 0), FULL_DOSE: row.images[FULL_DOSE]}
        self._folder.mkdir(parents=True, exist_ok=True)
        draw(self._folder / f"preview-{progress.step:06d}.png", [Row(drawn, row.brain, row.outlines)])


def _shown(cohort: Cohort, settings: TrainingSettings) -> tuple[Row, torch.Tensor]:
    """The subject with most lesion, or the first: its images and its input (1, M, z, y, x)."""
    record = max(cohort.subjects, key=lambda one: int(np.asarray(cohort.read(one).lesion).sum()))
    subject = cohort.read(record)
    brain, lesion, inputs = np.asarray(subject.brain), np.asarray(subject.lesion), subject.input.astype(np.float32)
    images = {TITLES[role]: inputs[place] for place, role in enumerate(cohort.roles) if role in TITLES}
    images[FULL_DOSE] = subject.target.astype(np.float32)
    outlines = ((lesion, "#39ff14"),) if lesion.any() else ()
    if settings.shared_scale:
        inputs = on_shared_scale(inputs, cohort.roles, brain)
    return Row(images, brain, outlines), torch.from_numpy(inputs)[None]


def _answer(network: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    learning = network.training
    network.eval()  # batch statistics are not to be touched
    device = next(network.parameters()).device
    with torch.inference_mode(), seeded(device, 0):
        answer: np.ndarray = network(inputs.to(device))[0, 0].cpu().numpy()
    network.train(learning)
    return answer


def _writer(folder: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(f"TensorBoard is not installed ({error}): pip install 'quarterdose[training]'") from error
    return SummaryWriter(str(folder))
