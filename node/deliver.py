"""Delivering: the derived instances to each destination, nothing twice, nothing forgotten, and confirmed.

Each attempt sends what the ledger has open, then has the destination say that it keeps it (node.commit). What a crash
left at SENDING is in doubt: the destination is asked before it is sent again (shared engine notes).
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence

from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from node.association import Peer
from node.commit import Reports, WaitingError, find_there, is_patient, request_commitment
from node.database import writing
from node.dicomweb import server_of
from node.fallback import choose_kind
from node.files import DataFolder
from node.ledger import (
    ARRIVED,
    CONFIRMED,
    QUEUED,
    SENDING,
    SENT,
    SPARE,
    deliveries_of,
    finish,
    mark,
    open_deliveries,
)
from node.outbox import FolderSender
from node.patience import is_out_of_resources
from node.scu import StorageScu
from node.sender import NotOfferedError, Outgoing, RefusedError, Sender, SendError, Whereabouts
from node.settings import Destination, DicomWebDestination, DimseDestination, DimseSource, PeerSettings, Settings
from node.states import State, Trigger, move
from node.stow import StowSender
from node.tables import Delivery, DerivedSeriesRow, Event, Study
from node.trust import client_context

log = logging.getLogger(__name__)

GIVEN_UP = "given up"


class Deliverer:
    """Delivers for one node; ``reports`` gets the destinations' answers to storage commitment."""

    def __init__(self, settings: Settings, engine: Engine, reports: Reports) -> None:
        self._settings = settings
        self._engine = engine
        self._reports = reports
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def attempt(self, study_id: int, destination_name: str, number: int) -> str:
        """Try to deliver what is still open for one destination.

        Returns "" when there is nothing left to do, GIVEN_UP when patience has ended (the study is FAILED then),
        otherwise what went wrong this time or is waited for. Raises what says that disk or database take nothing.
        """
        destination = next((place for place in self._settings.destination if place.name == destination_name), None)
        # One attempt at a time for each place: two series of attempts, from before and after a retry, may both be due.
        with self._turns[destination_name]:
            rows = self._open_rows(study_id, destination_name)
            if rows is None:
                return ""  # cancelled meanwhile, or a replayed step
            problem = self._try(study_id, destination, rows, number) if rows and destination is not None else ""
            if not problem:
                finish(self._settings, self._engine, study_id)
            return problem

    def _try(self, study_id: int, destination: Destination, rows: list[Delivery], number: int) -> str:
        """As ``attempt``, of these rows; it leaves the study DELIVERING where all of them have got there."""
        try:
            self._deliver(study_id, destination, rows)
        except WaitingError as waiting:
            return self._not_yet(study_id, destination.name, number, str(waiting), "not confirmed by")
        except SendError as error:
            return self._not_yet(study_id, destination.name, number, str(error), "not delivered to")
        except Exception as error:
            if is_out_of_resources(error):  # ours, not the destination's: waited for elsewhere
                raise
            # The destination answers what nobody foresaw; it may have been mended when it is asked again.
            log.exception("attempt %d to deliver study %d to %s failed", number, study_id, destination.name)
            why = f"{type(error).__name__}, of which the log says more"
            return self._not_yet(study_id, destination.name, number, why, "not delivered to")
        return ""

    def _open_rows(self, study_id: int, destination: str) -> list[Delivery] | None:
        """What is open for the destination; None when the study is not being delivered (any more)."""
        with Session(self._engine) as session:
            study = session.get_one(Study, study_id)
            if State(study.state) is not State.DELIVERING:
                return None
            return list(session.scalars(open_deliveries(study, destination)))

    def _spares(self, study_id: int, destination: Destination) -> list[Delivery]:
        with Session(self._engine) as session:
            rows = deliveries_of(session.get_one(Study, study_id), destination.name)
            return list(session.scalars(rows.where(Delivery.state == SPARE)))

    def _deliver(self, study_id: int, destination: Destination, rows: list[Delivery]) -> None:
        """Send, then confirm. Raises SendError, or WaitingError while a confirmation is outstanding."""
        timeout = self._settings.delivery.commitment_timeout_seconds
        if all(row.state in ARRIVED for row in rows) and is_patient(rows, timeout):
            raise WaitingError(f"everything is sent; waiting for the storage commitment of {destination.name}")
        spares = self._spares(study_id, destination)
        with self._sender(destination, [*rows, *spares]) as sender:
            if spares:
                choose_kind(self._engine, study_id, destination, sender.takes)
                rows = self._open_rows(study_id, destination.name) or []
            self._send(destination, sender, [row for row in rows if row.state in (QUEUED, SENDING)])
            if _confirmation(destination) != "none":
                self._confirm(study_id, destination, sender)

    def _send(self, destination: Destination, sender: Sender, rows: Sequence[Delivery]) -> None:
        settled = _confirmation(destination) == "none"
        for row in rows:
            if row.state == SENDING and _asks_after_crash(destination) and self._is_known_there(sender, row):
                mark(self._engine, [row], CONFIRMED, "found at the destination after a crash", settled=settled)
                continue
            if not mark(self._engine, [row], SENDING):
                continue
            try:
                sender.store(self._file(row))
            except RefusedError as error:
                # The peer said no: it is not there, so there is nothing to doubt. Silence leaves it at SENDING.
                mark(self._engine, [row], QUEUED, str(error))
                raise
            mark(self._engine, [row], SENT, settled=settled)

    def _confirm(self, study_id: int, destination: Destination, sender: Sender) -> None:
        """Have the destination say that it keeps what it was sent: by storage commitment or, without one, a query."""
        open_rows = self._open_rows(study_id, destination.name) or []
        unasked = [row for row in open_rows if row.asked is None]
        if _confirmation(destination) == "commitment" and unasked:
            try:
                request_commitment(
                    self._engine, sender, [(row, self._file(row)) for row in unasked], self._reports
                )  # fmt: skip
            except NotOfferedError as error:
                log.info("%s; it is asked by a query instead", error)
                find_there(self._engine, sender, unasked, self._whereabouts)
            open_rows = self._open_rows(study_id, destination.name) or []
        refused = [row for row in open_rows if row.state == QUEUED]
        if refused:
            raise SendError(refused[0].error)
        waiting = [row for row in open_rows if row.asked is not None]
        if waiting and is_patient(waiting, self._settings.delivery.commitment_timeout_seconds):
            raise WaitingError(f"everything is sent; waiting for the storage commitment of {destination.name}")
        find_there(self._engine, sender, open_rows, self._whereabouts)

    def _is_known_there(self, sender: Sender, row: Delivery) -> bool:
        """Whether the destination says that it holds the instance. One that cannot be asked gets it again: the same SOP
        Instance UID a second time does no harm."""
        try:
            return sender.has(self._whereabouts(row))
        except NotOfferedError as error:
            log.warning("%s; a doubtful instance is sent again", error)
            return False

    def _whereabouts(self, row: Delivery) -> Whereabouts:
        with Session(self._engine) as session:
            series = session.get_one(DerivedSeriesRow, row.derived_series_id)
            return Whereabouts(series.study.study_instance_uid, series.series_instance_uid, row.sop_instance_uid)

    def _file(self, row: Delivery) -> Outgoing:
        path = DataFolder(self._settings.node.data).root / row.path
        return Outgoing(path, row.sop_class_uid, row.sop_instance_uid, ExplicitVRLittleEndian)

    def _sender(self, destination: Destination, rows: Sequence[Delivery]) -> Sender:
        timeout = self._settings.delivery.timeout_seconds
        if isinstance(destination, DimseDestination):
            peer = peer_of(destination, self._settings.node.ae_title, timeout)
            asks = destination.confirm != "none" or destination.find_after_crash
            report = self._take_report if destination.confirm == "commitment" else None
            return StorageScu(peer, [self._file(row) for row in rows], find=asks, report=report)
        if isinstance(destination, DicomWebDestination):
            return StowSender(server_of(destination, timeout))
        return FolderSender(destination.path)

    def _take_report(self, report: object) -> None:
        self._reports.take(report)  # type: ignore[arg-type]

    def _not_yet(self, study_id: int, destination: str, number: int, problem: str, what: str) -> str:
        patience = self._settings.delivery
        with writing(self._engine) as session:
            study = session.get_one(Study, study_id)
            if State(study.state) is not State.DELIVERING:
                return ""  # cancelled, or superseded, while it was sent
            if patience.is_over(number):
                move(session, study, Trigger.FAILED, f"{what} {destination}: {problem}; retry when it is back")
                return GIVEN_UP
            why = f"attempt {number}: {problem}; next in {patience.backoff(number):g} s"
            log.warning("study %s to %s: %s", study.key, destination, why)
            session.add(Event(study_id=study_id, who="node", what=f"{what} {destination}", why=why))
            study.doing = f"waiting for {destination}: {problem}"
        return problem


def peer_of(
    destination: DimseDestination | DimseSource | PeerSettings, our_ae_title: str, timeout_seconds: float
) -> Peer:
    """How it is called. Raises SendError when the files of its TLS configuration cannot be used."""
    tls = None if destination.tls is None else client_context(destination.tls, destination.name)
    return Peer(destination.ae_title, destination.host, destination.port, our_ae_title, timeout_seconds, tls)


def _confirmation(destination: Destination) -> str:
    """What has to follow a success; a file in a folder is as durable as it gets."""
    return destination.confirm if isinstance(destination, DimseDestination | DicomWebDestination) else "none"


def _asks_after_crash(destination: Destination) -> bool:
    return not isinstance(destination, DimseDestination | DicomWebDestination) or destination.find_after_crash
