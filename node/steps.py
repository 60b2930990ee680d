"""The numeric steps of a study, run in the numeric process: convert, prepare, check, synthesise, derive, shadow.

Each reads what the step before left on disk and leaves its own result, complete or not at all; repeating one is
harmless. What is wrong with the study itself is raised as StudyError.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from pydicom import dcmwrite
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from model.card import CardError
from model.store import Model, WeightsError
from model.synthesise import Synthesis
from model.synthesise import synthesise as run_network
from node.collect import series_facts
from node.database import open_database, writing
from node.derive.series import DerivedSeries, Provenance
from node.derive.series import derive as make_series
from node.errors import StudyError
from node.fallback import first_state, kinds_to_make
from node.files import DataFolder, Work, write_durably
from node.inputs import of_run
from node.ledger import QUEUED, supersede
from node.models import shadow as shadows
from node.models.registry import KnownModel, choose, known_models
from node.models.registry import shadows as shadow_models
from node.models.standing import Standing
from node.quality import records
from node.quality.headers import header_measures
from node.quality.verdict import Verdict, assess
from node.routing.decide import Route
from node.routing.record import route_of
from node.settings import Destination, Settings, WorkSettings
from node.tables import Delivery, DerivedSeriesRow, Study, now
from preprocessing.adc import AdcError, adc_map, scanner_adc
from preprocessing.convert import ConversionError, ConvertedSeries, convert_series
from preprocessing.native import native
from preprocessing.prepare import CHANNELS, PreparationSettings
from preprocessing.prepare import prepare as prepare_study
from preprocessing.quality.study import measure
from preprocessing.study import PreparedStudy
from preprocessing.volume import Role, Volume
from preprocessing.volume_file import load_volume, read_npz, save_volume, write_npz

log = logging.getLogger(__name__)

_PROGRESS_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class _Run:
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
    _models: dict[Path, Model] = field(default_factory=dict)
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

    def model_for(self, roles: tuple[Role, ...], route: Route) -> Model:
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
        for known in models:
            if known.digest == model.digest and known.standing is Standing.RETIRED:
                raise StudyError(f"the weights in {path} were retired ({known.why}){_remedy(route)}")
        return model

    def load(self, folder: Path) -> Model:
        """The model of a folder, which stays loaded. Raises WeightsError or CardError."""
        if folder not in self._models:
            device = None if self.settings.work.device == "auto" else self.settings.work.device
            self._models[folder] = Model.load(folder, device)
        return self._models[folder]

    def progress(self, study_id: int, doing: str, share: float) -> None:
        """Tell the tables what is being done; at most twice a second."""
        if share < 1 and time.monotonic() - self._told < _PROGRESS_EVERY_SECONDS:
            return
        self._told = time.monotonic()
        with Session(self.engine) as session, session.begin():
            study = session.get_one(Study, study_id)
            study.doing, study.progress = doing, share


def convert(room: Room, study_id: int) -> None:
    """DICOM files to one volume per role; ADC from the scanner's map if there is one, else from the DWI."""
    run = _run(room, study_id)
    volumes: dict[Role, Volume] = {}
    for done, (role, paths) in enumerate(run.files.items()):
        room.progress(study_id, f"converting {role}", done / len(run.files))
        try:
            converted = convert_series(paths)
            log.info("study %d: %s read by %s", study_id, role, converted.reader)
            volumes |= volumes_of(role, converted, has_adc=Role.ADC in volumes)
        except (ConversionError, AdcError) as error:
            if role is Role.ADC and Role.DWI in run.files:
                log.warning("study %d: the scanner's ADC map is not used, it is computed instead: %s", study_id, error)
                continue
            raise StudyError(f"the {role} series cannot be converted: {error}") from error
    for role, volume in volumes.items():
        save_volume(run.work.converted(role), volume)


def prepare(room: Room, study_id: int) -> None:
    """Volumes to the network's input (paper, section 2)."""
    work = _work(room, study_id)
    roles = [role for role in (*CHANNELS, Role.DWI) if work.converted(role).exists()]
    settings = preparation_settings(room.settings.work)
    try:
        prepared = prepare_study(
            {role: load_volume(work.converted(role)) for role in roles},
            settings,
            lambda doing, share: room.progress(study_id, doing, share),
        )
    except ValueError as error:  # what every step of the preparation raises for an unfit study
        raise StudyError(f"the study cannot be prepared: {error}") from error
    prepared.save(work.prepared)


def check(room: Room, study_id: int) -> None:
    """Quality control: every measure and the verdict are recorded; a rejected study ends here.

    Raises StudyError with the reasons, unless a person has accepted the study in spite of them.
    """
    run = _run(room, study_id)
    work, prepared = run.work, PreparedStudy.load(run.work.prepared)
    room.progress(study_id, "measuring quality", 0.0)
    roles = [role for role in (*prepared.channels, Role.DWI) if work.converted(role).exists()]
    measures = measure({role: load_volume(work.converted(role)) for role in roles}, prepared)
    with writing(room.engine) as session:
        study = run.study(session)
        facts = {Role(role): series_facts(instances) for role, instances in of_run(session, study).items()}
        assessment = assess((*header_measures(facts), *measures), room.settings.quality)
        rejected = records.is_rejected(records.record(session, study, assessment))
    if rejected:
        reasons = "; ".join(assessment.sentences(Verdict.REJECT))
        raise StudyError(f"quality control rejected it: {reasons}; `quarterdose studies accept` overrules it")


def preparation_settings(work: WorkSettings) -> PreparationSettings:
    """[work] in the words of the preparation."""
    device = work.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return PreparationSettings(
        work.threads, work.brain_extraction == "accurate", method=work.preparation, device=device
    )


def synthesise(room: Room, study_id: int) -> None:
    """The network's input to the virtual full dose, with its uncertainty and who made it."""
    work = _work(room, study_id)
    prepared = PreparedStudy.load(work.prepared)
    model = room.model_for(prepared.channels, _route(room, study_id))
    result = _virtual(model, prepared, lambda done, of: room.progress(study_id, f"flip {done} of {of}", done / of))
    header = {
        "model_name": model.card.name, "model_digest": result.model_digest, "roles": list(result.roles),
        "created": now().isoformat(timespec="seconds"),
    }  # fmt: skip
    write_npz(work.synthesis, {"virtual": result.virtual, "uncertainty": result.uncertainty}, header)


def shadow(room: Room, study_id: int) -> None:
    """What models that are only tried make of the study, held against what was sent; nothing of it is kept but that.

    Raises StudyError, which concerns nobody but those who try the model.
    """
    run = _run(room, study_id)
    prepared = PreparedStudy.load(run.work.prepared)
    arrays, header = read_npz(run.work.synthesis)
    sent = arrays["virtual"].astype(np.float32)
    for tried in shadow_models(room.models(), prepared.channels):
        if tried.digest == header["model_digest"]:
            continue
        begun = time.monotonic()
        try:
            result = _virtual(room.load(tried.folder), prepared, None)
        except (WeightsError, CardError) as error:
            raise StudyError(f"the shadow {tried.label}: {error}") from error
        found = shadows.compare(result.virtual, sent, prepared.brain, time.monotonic() - begun)
        with writing(room.engine) as session:
            shadows.record(session, run.study(session), tried.digest, header["model_digest"], found)


def _virtual(model: Model, prepared: PreparedStudy, progress: Callable[[int, int], None] | None) -> Synthesis:
    inputs = prepared.input[[prepared.channels.index(role) for role in model.roles]]
    return run_network(model, inputs, prepared.brain, progress)


def derive(room: Room, study_id: int) -> None:
    """The virtual volume to DICOM series in the low-dose series' own space, and their rows in the delivery ledger."""
    run = _run(room, study_id)
    work, files = run.work, run.files
    arrays, header = read_npz(work.synthesis)
    low_dose = load_volume(work.converted(Role.LOW_DOSE))
    virtual = native(
        arrays["virtual"].astype(np.float32), PreparedStudy.load(work.prepared), low_dose.geometry,
        source=low_dose.source,
    )  # fmt: skip
    roles = tuple(Role(role) for role in header["roles"])
    with Session(room.engine) as session:
        study = session.get_one(Study, study_id)
        provenance = Provenance(
            header["model_name"], header["model_digest"], version("quarterdose"), run.inputs_digest, roles,
            _created(study, header), records.headline(records.latest(session, study)),
        )  # fmt: skip
    others: dict[Role, list[Path]] = {role: paths for role, paths in files.items() if role is not Role.LOW_DOSE}
    kinds = kinds_to_make(_places(room, _route(room, study_id)), room.settings.derived.kinds)
    series = make_series(virtual, files[Role.LOW_DOSE], others, provenance, kinds)
    files_made = [_write_files(room, work, made) for made in series]  # before the rows: others wait for the write lock
    with writing(room.engine) as session:
        study = run.study(session)
        rows = [
            _enter_in_ledger(room, session, study_id, made, paths, provenance)
            for made, paths in zip(series, files_made, strict=True)
        ]
        supersede(session, study, rows)


STEPS: dict[str, Callable[[Room, int], None]] = {
    "convert": convert,
    "prepare": prepare,
    "check": check,
    "synthesise": synthesise,
    "derive": derive,
    "shadow": shadow,
}


def _places(room: Room, route: Route) -> list[Destination]:
    """The destinations that the result is for."""
    return [destination for destination in room.settings.destination if route.goes_to(destination.name)]


def _remedy(route: Route) -> str:
    """What to do about weights that a rule named: a retry would go on with them, for a run keeps its decision."""
    remedy = "correct it, then `quarterdose studies force` begins a run by the new rules"
    return f'; the rule "{route.rule}" names them: {remedy}' if route.model else ""


def _work(room: Room, study_id: int) -> Work:
    with Session(room.engine) as session:
        study = session.get_one(Study, study_id)
        return room.folder.work(study.key, study.run)


def _route(room: Room, study_id: int) -> Route:
    with Session(room.engine) as session:
        return route_of(session, session.get_one(Study, study_id))


def _run(room: Room, study_id: int) -> _Run:
    """The study's run, with the files of every series that is an input in the network's channel order."""
    with Session(room.engine) as session:
        study = session.get_one(Study, study_id)
        inputs = of_run(session, study)
        files = {
            role: [room.folder.root / instance.path for instance in inputs[role]]
            for role in (*CHANNELS, Role.DWI)
            if role in inputs
        }
        return _Run(study.id, study.run, study.inputs_digest, room.folder.work(study.key, study.run), files)


def volumes_of(role: Role, converted: ConvertedSeries, *, has_adc: bool) -> dict[Role, Volume]:
    """What a converted series gives: itself, or for DWI its b=0 image (which guides registration) and the ADC."""
    if role is Role.ADC:
        return {Role.ADC: scanner_adc(converted.adc or converted.volumes[0])}
    if role is not Role.DWI:
        return {role: converted.volumes[0]}
    volumes = {Role.DWI: converted.volumes[int(np.argmin(converted.b_values))]}
    if not has_adc:
        own = converted.adc  # Philips may keep the scanner's map in the diffusion series
        volumes[Role.ADC] = scanner_adc(own) if own else adc_map(converted.b_values, converted.volumes)
    return volumes


def _created(study: Study, header: dict[str, str]) -> datetime:
    """When the result was first made: the same inputs and weights keep their moment, for it is part of the bytes."""
    same = [
        row.made
        for row in study.derived
        if row.inputs_digest == study.inputs_digest and row.model_digest == header["model_digest"]
    ]
    return min(same, default=datetime.fromisoformat(header["created"]))


def _write_files(room: Room, work: Work, made: DerivedSeries) -> list[str]:
    """Put the series' instances on disk; returns their places below the data folder, in order."""
    places = []
    for dataset in made.datasets:
        path = work.derived(made.kind, dataset.SOPInstanceUID)
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        write_durably(buffer.getvalue(), path, room.folder.incoming)
        places.append(path.relative_to(room.folder.root).as_posix())
    return places


def _enter_in_ledger(
    room: Room, session: Session, study_id: int, made: DerivedSeries, places: list[str], provenance: Provenance
) -> DerivedSeriesRow:
    """Write the rows of a series whose files are there; rows already there are of an earlier try or identical run."""
    row = session.scalar(
        select(DerivedSeriesRow).where(DerivedSeriesRow.series_instance_uid == made.series_instance_uid)
    )
    if row is None:
        row = DerivedSeriesRow(
            study_id=study_id, series_instance_uid=made.series_instance_uid, kind=made.kind,
            model_digest=provenance.model_digest, inputs_digest=provenance.inputs_digest, made=provenance.created,
        )  # fmt: skip
        session.add(row)
        session.flush()
    known = {(delivery.destination, delivery.sop_instance_uid) for delivery in row.deliveries}
    route = route_of(session, session.get_one(Study, study_id))
    for dataset, place in zip(made.datasets, places, strict=True):
        for destination in _places(room, route):
            state = first_state(destination, made.kind, room.settings.derived.kinds)
            if state is not None and (destination.name, dataset.SOPInstanceUID) not in known:
                session.add(
                    Delivery(
                        derived_series_id=row.id, destination=destination.name, sop_class_uid=dataset.SOPClassUID,
                        sop_instance_uid=dataset.SOPInstanceUID, state=state, attempts=0,
                        path=place, settled=None if state == QUEUED else now(),
                    )
                )  # fmt: skip
    return row
