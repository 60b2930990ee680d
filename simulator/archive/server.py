"""The archive that stands for a PACS: Storage, Query/Retrieve, storage commitment, and routing to the node."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from simulator.archive.commitment import answer_to, report_commitment
from simulator.archive.faults import FaultOrder, Faults
from simulator.archive.index import Index, StoredInstance
from simulator.archive.query import find, select
from simulator.archive.retrieve import RetrieveEntity, get, move
from simulator.archive.route import Router
from simulator.archive.send import Peer, SendResult

_SUCCESS, _PENDING, _CANCEL = 0x0000, 0xFF00, 0xFE00
_OUT_OF_RESOURCES, _NOT_MATCHING, _NOT_UNDERSTOOD, _NOT_AUTHORIZED = 0xA700, 0xA900, 0xC000, 0x0124
_REJECTED_TRANSIENT, _BY_PRESENTATION, _CONGESTION = 0x02, 0x03, 0x01  # PS3.8 table 9-21

Answer = tuple[int, Dataset | None]
_log = logging.getLogger(__name__)


class Archive:
    """A PACS on loopback. ``port`` 0 takes a free one; ``peers`` are the AEs it may move to and report to;
    ``route_to`` are those that get every quiet study. Use it as a context manager, or ``start`` and ``stop`` it.
    """

    def __init__(
        self, ae_title: str, port: int, folder: Path, *, peers: Iterable[Peer] = (), route_to: Sequence[Peer] = (),
        quiet_seconds: float = 2.0, host: str = "127.0.0.1", faults: Faults | None = None,
    ) -> None:
        self.ae_title = ae_title
        self.index = Index(folder)
        self._address = (host, port)
        self._peers = {peer.ae_title: peer for peer in (*route_to, *peers)}
        self._router = Router(self.index, route_to, quiet_seconds, lambda: self.ae_title, lambda: self._faults)
        self._faults = FaultOrder(faults or Faults())
        self._received: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._reports: list[threading.Thread] = []
        self._server: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.socket.getsockname()[1]) if self._server else self._address[1]

    def start(self) -> None:
        """Listen; raises ``OSError`` if the port is taken."""
        self._server = self._entity().start_server(self._address, block=False, evt_handlers=[
            (evt.EVT_REQUESTED, self._requested), (evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_MOVE, self._move), (evt.EVT_C_GET, self._get), (evt.EVT_N_ACTION, self._commit),
        ])
        self._router.start()

    def stop(self) -> None:
        """Stop listening and routing; for good: to start again, make another archive on the folder."""
        self._stopping.set()
        self._router.stop()
        for report in self._reports:
            report.join()
        if self._server:
            self._server.shutdown()
            self._server = None

    def order(self, faults: Faults) -> None:
        """From now on go wrong like this."""
        self._faults = FaultOrder(faults)

    def add_peer(self, peer: Peer) -> None:
        """Make an AE known: its port may only be known once it runs."""
        self._peers[peer.ae_title] = peer

    def received(self) -> dict[str, int]:
        """How many times each SOP instance was received and stored."""
        return dict(self._received)

    def route(self, study_uid: str, destination: str | Peer) -> SendResult:
        """Send a study now to a peer or to the AE title of a known one, as routing would.

        Raises ``KeyError`` for an AE title that is not known.
        """
        return self._router.route(study_uid, self._peers[destination] if isinstance(destination, str) else destination)

    def _entity(self) -> RetrieveEntity:
        entity = RetrieveEntity(self.ae_title)
        entity.require_called_aet = True
        entity.maximum_pdu_size = 0
        entity.maximum_associations = 50
        for context in AllStoragePresentationContexts:
            # both roles, for C-GET: there the archive is the one that sends
            entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES, scu_role=True, scp_role=True)
        for service in (
            Verification, StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove,
            StudyRootQueryRetrieveInformationModelGet, StorageCommitmentPushModel,
        ):
            entity.add_supported_context(service)
        return entity

    def _requested(self, event: Any) -> None:
        if self._faults.refuse():
            event.assoc.acse.send_reject(_REJECTED_TRANSIENT, _BY_PRESENTATION, _CONGESTION)
            event.assoc.is_rejected = True  # or pynetdicom goes on and accepts, and the caller hears of an abort
            event.assoc.kill()

    def _store(self, event: Any) -> int:
        if self._faults.hang_seconds:
            self._stopping.wait(self._faults.hang_seconds)
        if self._faults.abort():
            event.assoc.abort()
            return _OUT_OF_RESOURCES  # nobody hears it
        if self._faults.be_out_of_resources():
            return _OUT_OF_RESOURCES
        try:
            instance, is_news = self.index.add(event.encoded_dataset())
        except (InvalidDicomError, ValueError, AttributeError, EOFError) as error:
            _log.warning("an instance from %s is not stored: %s", event.assoc.requestor.ae_title, error)
            return _NOT_UNDERSTOOD
        self._received[instance.sop_instance_uid] += 1
        if is_news:
            self._router.arrived(instance)
        return _SUCCESS

    def _find(self, event: Any) -> Iterator[Answer]:
        try:
            for answer in find(event.identifier, self.index.all()):
                if event.is_cancelled:
                    yield _CANCEL, None
                    return
                yield _PENDING, answer
        except ValueError as error:
            _log.warning("C-FIND: %s", error)
            yield _NOT_MATCHING, None

    def _move(self, event: Any) -> Iterator[Any]:
        peer = self._peers.get(event.move_destination)
        if peer is None:
            yield None, None
            return
        instances = self._selected(event)
        yield from move(event, instances, peer, self._faults.feign(instances))

    def _get(self, event: Any) -> Iterator[Any]:
        yield from get(event, self._selected(event))

    def _selected(self, event: Any) -> list[StoredInstance]:
        selected = select(event.identifier, self.index.all())
        lost = self._faults.lose(selected)
        return [instance for instance in selected if instance not in lost]

    def _commit(self, event: Any) -> Answer:
        peer = self._peers.get(event.assoc.requestor.ae_title)
        if peer is None:
            _log.warning("storage commitment asked by %s, which is no known peer", event.assoc.requestor.ae_title)
            return _NOT_AUTHORIZED, None
        if self._faults.withhold_commitment():
            return _SUCCESS, None
        event_type, report = answer_to(event.action_information, self.index, self._faults)
        thread = threading.Thread(target=report_commitment, args=(event_type, report, peer, self.ae_title))
        thread.start()
        self._reports.append(thread)
        return _SUCCESS, None

