"""What must be true afterwards, from outside: the senders' ledgers, the node's folder and tables, and the PACS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydicom import dcmread
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from benchmarks.chaos.studies import ChaosStudy, dataset_digest
from node.ledger import COMMITTED, CONFIRMED
from node.states import State
from node.tables import Delivery, DerivedSeriesRow, Instance, Study
from simulator.orthanc import OrthancProcess


@dataclass(frozen=True)
class Verdict:
    """``wrong`` is empty when nothing was lost, nothing sent twice, and everything complete was delivered."""

    wrong: tuple[str, ...]
    acknowledged: int
    delivered: int
    committed: int
    confirmed: int


def judge(
    studies: Sequence[ChaosStudy], acknowledged: Mapping[Path, str], data: Path, engine: Engine, pacs: OrthancProcess
) -> Verdict:
    """Compare all of it. ``acknowledged``: the data set's digest of each file that success was answered for."""
    ended = _deliveries(engine)
    wrong = [
        *_not_sent(studies, acknowledged),
        *lost(acknowledged, data, engine),
        *_states(studies, engine),
        *_results(studies, engine),
        *_at_the_pacs(studies, data, engine, pacs),
        *(f"{count} deliveries are {state}" for state, count in ended.items() if state not in (COMMITTED, CONFIRMED)),
    ]
    delivered = sum(state is State.DELIVERED for state in _state_of(engine).values())
    return Verdict(tuple(wrong), len(acknowledged), delivered, ended[COMMITTED], ended[CONFIRMED])


def unsettled(studies: Sequence[ChaosStudy], engine: Engine) -> list[str]:
    """The complete studies that have not come to an end, good or bad."""
    states = _state_of(engine)
    ends = (State.DELIVERED, State.FAILED, State.REJECTED, State.CANCELLED)
    uids = (study.study_instance_uid for study in studies if study.complete)
    return [uid for uid in uids if states.get(uid) not in ends]


def _not_sent(studies: Sequence[ChaosStudy], acknowledged: Mapping[Path, str]) -> Iterator[str]:
    for study in studies:
        lacking = sum(path not in acknowledged for path in study.files)
        if lacking:
            yield f"{study.study_instance_uid}: {lacking} of {len(study.files)} instances were never answered success"


def lost(acknowledged: Mapping[Path, str], data: Path, engine: Engine) -> Iterator[str]:
    """Every acknowledged instance has one current row, whose file holds the very bytes that were sent."""
    with Session(engine) as session:
        rows = session.execute(select(Instance.sop_instance_uid, Instance.path, Instance.current)).all()
    current = Counter(row.sop_instance_uid for row in rows if row.current)
    held = {row.sop_instance_uid: data / row.path for row in rows if row.current}
    for path, digest in acknowledged.items():
        uid = str(dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
        if current[uid] != 1:
            yield f"{path}: answered success, and has {current[uid]} current rows"
        elif not held[uid].is_file():
            yield f"{path}: answered success, and its file is gone"
        elif dataset_digest(held[uid]) != digest:
            yield f"{path}: answered success, and other bytes are kept"
    if len(rows) != len(current):
        yield f"{len(rows)} rows for {len(current)} instances: one was kept in two versions"


def _states(studies: Sequence[ChaosStudy], engine: Engine) -> Iterator[str]:
    states = _state_of(engine)
    waiting = (State.RECEIVING, State.INCOMPLETE)
    for study in studies:
        wanted = (State.DELIVERED,) if study.complete else waiting
        if states.get(study.study_instance_uid) not in wanted:
            yield f"{study.study_instance_uid} is {states.get(study.study_instance_uid)}: {_why(study, engine)}"


def _results(studies: Sequence[ChaosStudy], engine: Engine) -> Iterator[str]:
    """One run and one derived series for each complete study, superseded by none; none for the others."""
    with Session(engine) as session:
        rows = session.execute(select(Study.study_instance_uid, Study.run, DerivedSeriesRow.id)
                               .outerjoin(DerivedSeriesRow, DerivedSeriesRow.study_id == Study.id)).all()  # fmt: skip
    made = Counter(row.study_instance_uid for row in rows if row.id is not None)
    runs = {row.study_instance_uid: row.run for row in rows}
    for study in studies:
        uid = study.study_instance_uid
        if made[uid] != study.complete or runs.get(uid, 0) != study.complete:
            yield f"{uid}: {made[uid]} derived series in {runs.get(uid, 0)} runs"


def _at_the_pacs(
    studies: Sequence[ChaosStudy], data: Path, engine: Engine, pacs: OrthancProcess
) -> Iterator[str]:
    """The PACS holds one instance of each complete study, the one of the ledger, with the bytes that were made."""
    with Session(engine) as session:
        ledger = {row.sop_instance_uid: data / row.path for row in session.scalars(select(Delivery))}
    held: dict[str, list[str]] = {}
    for study in studies:
        found = pacs.instances(study.study_instance_uid)
        if len(found) != study.complete:
            yield f"{study.study_instance_uid}: the PACS holds {len(found)} instances"
        held |= {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in found}
    if total := len(pacs.instances()) - len(held):
        yield f"the PACS holds {total} instances of no study that was sent"
    for uid in held.keys() - ledger.keys():
        yield f"{uid} is at the PACS, and the ledger does not know of it"
    for uid, path in ledger.items():
        if uid not in held:
            yield f"{uid} is in the ledger, and not at the PACS"
            continue
        with NamedTemporaryFile() as copy:
            copy.write(pacs.get_bytes(f"/instances/{held[uid]}/file"))
            copy.flush()
            if dataset_digest(Path(copy.name)) != dataset_digest(path):
                yield f"{uid}: the PACS holds other bytes than were made"


def _deliveries(engine: Engine) -> Counter[str]:
    with Session(engine) as session:
        return Counter(session.scalars(select(Delivery.state)))


def _state_of(engine: Engine) -> dict[str, State]:
    with Session(engine) as session:
        rows = session.execute(select(Study.study_instance_uid, Study.state)).all()
    return {uid: State(state) for uid, state in rows}


def _why(study: ChaosStudy, engine: Engine) -> str:
    with Session(engine) as session:
        reason = session.scalar(select(Study.reason).where(Study.study_instance_uid == study.study_instance_uid))
    return reason or "no reason"
