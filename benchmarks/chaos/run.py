"""The rig and its course: a node on a small disk, a PACS and senders around it, faults, and the verdict at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.chaos.disk import SmallDisk
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.node import SupervisedNode
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.proxy import Cut, ResettingProxy
from benchmarks.chaos.senders import Sender
from benchmarks.chaos.studies import ChaosStudy, multiply, write_small_model
from benchmarks.chaos.verdict import Verdict, judge, unsettled
from node.database import open_database
from node.settings import load_settings
from simulator.orthanc import OrthancProcess
from tests.conftest import free_port, write_config

_MEGABYTES = (1500, 90)  # of disk, and for each complete study
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 30.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What was done in a run, and the verdict. ``resets``: of the senders' connections, and of those to the PACS."""

    verdict: Verdict
    faults: Counter[str]
    resets: tuple[Counter[Cut], Counter[Cut]]
    answers: Counter[str]
    associations: int
    starts: int
    minutes: float


def run_chaos(plan: Plan, template: Sequence[Path], folder: Path, tell: Tell = print) -> Outcome:
    """One run in an empty folder; ``template`` are the files of the study that all are made from."""
    tell(f"seed {plan.seed}")
    studies = multiply(template, plan.studies, plan.complete, folder / "studies")
    plan.random("order").shuffle(studies)
    with ExitStack() as stack:
        disk = stack.enter_context(SmallDisk(folder, _MEGABYTES[0] + _MEGABYTES[1] * plan.complete))
        if not disk.is_real:
            tell("nothing can be mounted here: the disk is not filled")
        config = _configure(plan, folder, disk.path)
        settings = load_settings(config)
        port, pacs_port = settings.receiver.port, free_port()
        pacs = stack.enter_context(OrthancProcess(folder / "pacs", "PACS", pacs_port, free_port(), port))
        to_pacs = ResettingProxy(settings.destination[0].port, pacs_port, plan.resets, plan.random("the PACS's"))
        to_node = ResettingProxy(free_port(), port, plan.resets, plan.random("the node's"))
        stack.enter_context(to_pacs)
        stack.enter_context(to_node)
        node = stack.enter_context(SupervisedNode(config))
        engine = open_database(settings)
        faults = Faults(plan, node, disk, Path(str(engine.url.database)), pacs)
        stack.callback(faults.stop)
        begun = time.monotonic()
        deadline = begun + plan.limit_minutes * 60
        senders = _senders(plan, studies, (settings.node.ae_title, to_node.port), deadline)
        for sender in senders:
            sender.start()
        faults.start()
        _wait(studies, senders, faults, engine, deadline, tell)
        faults.stop()
        acknowledged = {path: digest for one in senders for path, digest in one.ledger.acknowledged.items()}
        return Outcome(
            judge(studies, acknowledged, settings.node.data, engine, pacs), faults.made,
            (to_node.resets, to_pacs.resets), sum((one.ledger.answers for one in senders), Counter[str]()),
            sum(one.ledger.associations for one in senders), node.starts, (time.monotonic() - begun) / 60,
        )  # fmt: skip


def _configure(plan: Plan, folder: Path, data: Path) -> Path:
    """The shipped configuration, with a small network, waiting times of seconds, and no reserve on the disk: it is to
    be really full."""
    write_small_model(folder / "model")
    senders = [_ae_title(number) for number in range(plan.senders)]
    return write_config(
        folder, data=f'"{data}/var"', calling_ae_titles=[*senders, "PACS"], minimum_free_gb=0.0,
        required='["t1", "low_dose"]', quiet_seconds=20.0, threads=1, recovery_attempts=100,
        model__folder=f'"{folder / "model"}"', delivery__first_retry_seconds=2.0,
        delivery__longest_retry_seconds=15.0, commitment_timeout_seconds=60.0,
    )  # fmt: skip


def _ae_title(number: int) -> str:
    return f"SENDER{number + 1:02d}"


def _senders(
    plan: Plan, studies: Sequence[ChaosStudy], called: tuple[str, int], deadline: float
) -> list[Sender]:
    """Each sends its share over most of the time in which there are faults."""
    pause = plan.minutes * 60 * 0.8 * plan.senders / plan.studies
    return [
        Sender(_ae_title(number), called, studies[number :: plan.senders], pause, deadline,
               plan.random(_ae_title(number)))
        for number in range(plan.senders)
    ]  # fmt: skip


def _wait(
    studies: Sequence[ChaosStudy], senders: Sequence[Sender], faults: Faults, engine: Engine, deadline: float,
    tell: Tell,
) -> None:  # fmt: skip
    """Until all is sent, all is done to the node, and every complete study has come to an end; or to the deadline."""
    said = time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        try:
            left = len(unsettled(studies, engine))
        except SQLAlchemyError:  # locked, full, or not there yet
            continue
        sending = sum(sender.is_alive() for sender in senders)
        if not left and not sending and faults.are_over:
            return
        if time.monotonic() - said > _TELL_SECONDS:
            said = time.monotonic()
            sent = sum(len(sender.ledger.acknowledged) for sender in senders)
            done = ", ".join(f"{what} {count}" for what, count in sorted(faults.made.items()))
            tell(f"{sent} instances acknowledged, {sending} senders at work, {left} studies under way; {done}")
