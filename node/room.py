"""What the numeric process keeps at hand for its steps: configuration, database, networks, and a study's run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from model.card import CardError, ModelCard
from model.ensemble import Ensemble
from model.store import WeightsError
from node.database import open_database
from node.errors import StudyError
from node.files import DataFolder, Work
from node.inputs import of_run
from node.models.cost import cost
from node.models.registry import KnownModel, choose, known_models
from node.models.standing import Standing
from node.routing.decide import Route
from node.routing.record import route_of
from node.settings import Settings
from node.tables import Study
from preprocessing.role import CHANNELS, Role

_PROGRESS_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Run:
    """What a step works on, read once when it begins: what arrives meanwhile is for a later run."""

    study_id: int
    number: int
    inputs_digest: str
    work: Work
    files: dict[Role, list[Path]]

    def study(self, session: Session) -> Study:
        """The row that a result is written to. Raises StudyError when a later run has begun."""
        study = session.get_one(Study, self.study_id)
        if study.run != self.number:
            raise StudyError("a later run has begun: this one's result would be out of date")
        return study


@dataclass
class Room:
    """What the steps share: configuration, database, and the network that stays loaded."""

    settings: Settings
    engine: Engine
    _models: dict[Path, Ensemble] = field(default_factory=dict)
    _told: float = 0.0

    @classmethod
    def open(cls, settings: Settings) -> Room:
        torch.set_num_threads(settings.work.threads)
        return cls(settings, open_database(settings))

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.settings.node.data)

    def models(self) -> list[KnownModel]:
        """Every model, and what people decided about it."""
        with Session(self.engine) as session:
            return known_models(session, self.folder)

    def model_for(self, roles: tuple[Role, ...], route: Route) -> Ensemble:
        """The weights that the study's rule names, else the configured ones, else those in use that make the most of
        ``roles``. Raises StudyError.
        """
        named = route.model or self.settings.model.folder
        try:
            models = self.models()
            path = Path(named) if named else choose(models, roles).folder
            model = self.load(path)
        except (WeightsError, CardError) as error:
            raise StudyError(f"{error}{_remedy(route)}") from error
        lacking = [role for role in model.roles if role not in roles]
        if lacking:
            why = f"the weights in {path} need {', '.join(lacking)}, which this study has not"
            raise StudyError(f"{why}{_remedy(route)}")
        digests = {member.digest for member in model.members}
        for known in models:
            if known.digest in digests and known.standing is Standing.RETIRED:
                raise StudyError(f"the weights in {path} were retired ({known.why}){_remedy(route)}")
        return model

    def cost(self, model: Ensemble, roles: tuple[Role, ...]) -> str:
        """What it costs a study that has only ``roles``, answered by ``model``; empty where it has all."""
        missing = [role for role in CHANNELS if role not in roles]
        if not missing:
            return ""
        try:
            fuller = ModelCard.read(choose(self.models(), CHANNELS).folder)
            said = cost(model.members[0].card, fuller)
        except (WeightsError, CardError) as error:  # no reason to do without a result
            said = f"what that costs is not known: {error}"
        return f"; without {', '.join(missing)}: {said}"

    def load(self, folder: Path) -> Ensemble:
        """The model of a folder, or those of its subfolders together, which stay loaded. Raises WeightsError or
        CardError."""
        if folder not in self._models:
            device = None if self.settings.work.device == "auto" else self.settings.work.device
            self._models[folder] = Ensemble.load(folder, device)
        return self._models[folder]

    def progress(self, study_id: int, doing: str, share: float) -> None:
        """Tell the tables what is being done; at most twice a second."""
        if share < 1 and time.monotonic() - self._told < _PROGRESS_EVERY_SECONDS:
            return
        self._told = time.monotonic()
        with Session(self.engine) as session, session.begin():
            study = session.get_one(Study, study_id)
            study.doing, study.progress = doing, share

    def work(self, study_id: int) -> Work:
        """Where the files of the study's latest run lie."""
        with Session(self.engine) as session:
            study = session.get_one(Study, study_id)
            return self.folder.work(study.key, study.run)

    def route(self, study_id: int) -> Route:
        """What the rules decided on the study's latest run."""
        with Session(self.engine) as session:
            return route_of(session, session.get_one(Study, study_id))

    def run(self, study_id: int) -> Run:
        """The study's latest run, its files in the network's channel order. Raises StudyError where they changed."""
        with Session(self.engine) as session:
            study = session.get_one(Study, study_id)
            inputs = of_run(session, study)
            files = {
                role: [self.folder.root / instance.path for instance in inputs[role]]
                for role in (*CHANNELS, Role.DWI)
                if role in inputs
            }
            return Run(study.id, study.run, study.inputs_digest, self.folder.work(study.key, study.run), files)


def _remedy(route: Route) -> str:
    """What to do about weights that a rule named: a retry would go on with them, for a run keeps its decision."""
    remedy = "correct it, then `quarterdose studies force` begins a run by the new rules"
    return f'; the rule "{route.rule}" names them: {remedy}' if route.model else ""
