"""The numeric steps of a study, run in the numeric process: convert, prepare, check, synthesise, derive, shadow.

Each reads what the step before left on disk and leaves its own result, complete or not at all; repeating one is
harmless. What is wrong with the study itself is raised as StudyError.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from sqlalchemy.orm import Session

from model.card import CardError
from model.ensemble import Ensemble, synthesise_together
from model.store import WeightsError
from model.synthesise import Synthesis
from node.collect import series_facts
from node.database import writing
from node.derive.series import Provenance
from node.derive.series import derive as make_series
from node.errors import StudyError
from node.fallback import kinds_to_make
from node.inputs import of_run
from node.ledger import supersede
from node.models import shadow as shadows
from node.models.registry import shadows as shadow_models
from node.quality import records
from node.quality.headers import header_measures
from node.quality.verdict import Verdict, assess
from node.results import enter_in_ledger, first_made, places_of, write_files
from node.room import Room
from node.settings import WorkSettings
from node.tables import Event, Study, now
from preprocessing.adc import AdcError, adc_map, scanner_adc
from preprocessing.convert import ConversionError, ConvertedSeries, convert_series
from preprocessing.native import native
from preprocessing.prepare import PreparationSettings
from preprocessing.prepare import prepare as prepare_study
from preprocessing.quality.study import measure
from preprocessing.role import CHANNELS, Role
from preprocessing.study import PreparedStudy
from preprocessing.volume import Volume
from preprocessing.volume_file import load_volume, read_npz, save_volume, write_npz

log = logging.getLogger(__name__)


def convert(room: Room, study_id: int) -> None:
    """DICOM files to one volume per role; ADC from the scanner's map if there is one, else from the DWI."""
    run = room.run(study_id)
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
    work = room.work(study_id)
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
    run = room.run(study_id)
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
    run = room.run(study_id)
    work, prepared = run.work, PreparedStudy.load(run.work.prepared)
    model = room.model_for(prepared.channels, room.route(study_id))
    chosen = f"{model.name} takes {', '.join(model.roles)}{room.cost(model, prepared.channels)}"
    with writing(room.engine) as session:
        session.add(Event(study_id=run.study(session).id, who="node", what="model", why=chosen))
    result = _virtual(model, prepared, lambda done, of: room.progress(study_id, f"flip {done} of {of}", done / of))
    header = {
        "model_name": model.name, "model_digest": result.model_digest, "roles": list(result.roles),
        "created": now().isoformat(timespec="seconds"),
    }  # fmt: skip
    write_npz(work.synthesis, {"virtual": result.virtual, "uncertainty": result.uncertainty}, header)


def shadow(room: Room, study_id: int) -> None:
    """What models that are only tried make of the study, held against what was sent; nothing of it is kept but that.

    Raises StudyError, which concerns nobody but those who try the models, when all were tried and one of them failed.
    """
    run = room.run(study_id)
    prepared = PreparedStudy.load(run.work.prepared)
    arrays, header = read_npz(run.work.synthesis)
    sent = arrays["virtual"].astype(np.float32)
    failed = []
    for tried in shadow_models(room.models(), prepared.channels):
        if tried.digest == header["model_digest"]:
            continue
        begun = time.monotonic()
        try:
            result = _virtual(room.load(tried.folder), prepared, None)
        except (WeightsError, CardError, StudyError) as error:
            failed.append(f"the shadow {tried.label}: {error}")
            continue
        found = shadows.compare(result.virtual, sent, prepared.brain, time.monotonic() - begun)
        with writing(room.engine) as session:
            shadows.record(session, run.study(session), tried.digest, header["model_digest"], found)
    if failed:
        raise StudyError("; ".join(failed))


def _virtual(model: Ensemble, prepared: PreparedStudy, progress: Callable[[int, int], None] | None) -> Synthesis:
    inputs = prepared.input[[prepared.channels.index(role) for role in model.roles]]
    try:
        return synthesise_together(model, inputs, prepared.brain, progress)
    except ValueError as error:
        raise StudyError(f"{model.name} cannot synthesise it: {error}") from error


def derive(room: Room, study_id: int) -> None:
    """The virtual volume to DICOM series in the low-dose series' own space, and their rows in the delivery ledger."""
    run = room.run(study_id)
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
            first_made(study, header), records.headline(records.latest(session, study)),
        )  # fmt: skip
    others: dict[Role, list[Path]] = {role: paths for role, paths in files.items() if role is not Role.LOW_DOSE}
    kinds = kinds_to_make(places_of(room, room.route(study_id)), room.settings.derived.kinds)
    series = make_series(virtual, files[Role.LOW_DOSE], others, provenance, kinds)
    files_made = [write_files(room, work, made) for made in series]  # before the rows: others wait for the write lock
    with writing(room.engine) as session:
        study = run.study(session)
        rows = [
            enter_in_ledger(room, session, study_id, made, paths, provenance)
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
