"""Storing one instance that has come in whole: the answer says success only for what is durable (PS3.4 Annex B)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from node.database import writing
from node.files import DataFolder, Folders, safe_name, sync, write_all, write_durably
from node.header.instance import HeaderError
from node.receive.answer import CANNOT_UNDERSTAND, DOES_NOT_MATCH_SOP_CLASS, SUCCESS, Answer, out_of_resources
from node.receive.clerk import Clerk
from node.receive.header_scan import Identity, identify, identify_at_once
from node.receive.incoming import Incoming
from node.receive.journal import Journal, Kept, Record
from node.receive.record import Arrival, Ledger
from node.receive.recover import intact, note_of, recover
from node.tables import Quarantined

log = logging.getLogger(__name__)

_SYNCS_AT_ONCE = 4
_LOOK_SECONDS = 0.2  # between two looks at the disk's free space, while there is some
_CLOSING_SECONDS = 5.0
_HEAD = 1 << 20  # as much of a broken data set is looked through for the study that it claims


@dataclass(frozen=True)
class Written:
    """An instance in the journal that is not yet known to be durable."""

    arrival: Arrival
    kept: Kept


class Store:
    """Takes what associations bring, from many threads."""

    def __init__(self, engine: Engine, data: DataFolder, minimum_free_bytes: int) -> None:
        self._engine = engine
        self._data = data
        self._minimum_free = minimum_free_bytes
        self._room_until = 0.0
        self._folders = Folders(data.root)
        self._syncs = ThreadPoolExecutor(_SYNCS_AT_ONCE + 1, "fsync")
        self._tidying: Future[None] = Future()
        self._tidying.set_result(None)
        self._folders.make(data.incoming)
        for left_over in data.incoming.iterdir():  # by a crash; it was not acknowledged, or has its name
            left_over.unlink()
        self._folders.make(data.journal)
        self._journal = Journal(data.journal)
        ledger = Ledger(engine)
        recover(self._journal, ledger, data)
        self._clerk = Clerk(self._write_file, ledger.write, self._refused, self._journal, self._tidy)

    def open(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Incoming:
        """Where one data set is to be written."""
        return Incoming(
            self._data.incoming, sop_class_uid, sop_instance_uid, transfer_syntax_uid, self._check_space
        )  # fmt: skip

    def keep(self, incoming: Incoming, sop_class_uid: str, sender: str, brings: Callable[[str], None]) -> Answer:
        """Make a whole data set durable, as an instance of its study or in quarantine. It is closed in any case.

        ``brings`` is told the study's key before the instance is stored.
        """
        try:
            self._check_space()
            incoming.check()
            self._clerk.await_room()
            if self.problem is not None:
                raise self.problem
            return self._keep(incoming, sop_class_uid, sender, brings)
        except (OSError, SQLAlchemyError) as error:
            log.error("an instance from %s was not stored: %s", sender, error)
            return out_of_resources(error)
        finally:
            incoming.close()

    def write(
        self, incoming: Incoming, sop_class_uid: str, sender: str, brings: Callable[[str], None]
    ) -> Written | None:  # fmt: skip
        """The first half of ``keep`` for an instance that is small, plainly in order and not the first of its series:
        without waiting for anything but the disk's cache. ``acknowledge`` is the second. None when that cannot be:
        nothing has happened then."""
        held = incoming.held
        if held is None or self.problem is not None or not self._clerk.has_room:
            return None
        identity = identify_at_once(held, incoming.content_start, incoming.transfer_syntax_uid)
        if identity is None or _why_not(identity, sop_class_uid) is not None:
            return None
        arrival = self._arrival(incoming, identity, sender)
        path = self._data.root / arrival.path
        if not self._folders.has(path.parent):
            return None
        try:
            self._check_space()
            brings(safe_name(identity.study_instance_uid))
            kept = self._journal.write(note_of(arrival), held, incoming.content_start, path)
        except OSError:
            return None  # which ``keep`` will meet again, and says why
        incoming.close()
        return Written(arrival, kept)

    def acknowledge(self, written: Sequence[Written]) -> Answer:
        """Make them durable. What it says holds for each of them."""
        try:
            self._journal.sync([one.kept for one in written])
        except OSError as error:
            senders = ", ".join(sorted({one.arrival.sender for one in written}))
            log.error("%d instances from %s were not stored: %s", len(written), senders, error)
            return out_of_resources(error)
        for one in written:
            self._clerk.later(one.arrival, one.kept)
        return Answer(SUCCESS)

    def settle(self, seconds: float) -> bool:
        """Wait until all that was kept so far has its row; whether it has."""
        return self._clerk.settle(seconds)

    @property
    def problem(self) -> Exception | None:
        """Why nothing is kept at present though there is room: rows cannot be written."""
        return self._clerk.problem

    def close(self) -> None:
        """Keep nothing more. What cannot get its file and row now gets them when the next store is opened."""
        settled = self._clerk.settle(_CLOSING_SECONDS)
        self._clerk.close()
        if settled:
            self._tidying.result()
            self._tidy_now(quiet=True)

    def _check_space(self) -> None:
        if time.monotonic() < self._room_until:
            return
        disk = os.statvfs(self._data.root)
        free = disk.f_bavail * disk.f_frsize
        if free < self._minimum_free:
            raise OSError(errno.ENOSPC, f"less than {self._minimum_free >> 20} MB free on the disk")
        self._room_until = time.monotonic() + _LOOK_SECONDS

    def _keep(self, incoming: Incoming, announced: str, sender: str, brings: Callable[[str], None]) -> Answer:
        try:
            with incoming.view() as content:
                identity = identify(content, incoming.content_start, incoming.transfer_syntax_uid)
        except HeaderError as error:
            answer = Answer(CANNOT_UNDERSTAND, str(error))
            return self._quarantine(incoming, answer, sender, _claimed_study(incoming))
        why_not = _why_not(identity, announced)
        if why_not is not None:
            return self._quarantine(incoming, why_not, sender, identity.study_instance_uid)
        arrival = self._arrival(incoming, identity, sender)
        brings(safe_name(identity.study_instance_uid))
        path = self._data.root / arrival.path
        self._folders.make(path.parent)
        if incoming.held is not None:
            kept = self._journal.append(note_of(arrival), incoming.held, incoming.content_start, path)
            self._clerk.later(arrival, kept)
        else:
            incoming.complete()
            incoming.move_to(path)  # nobody reads it before it has its row
            self._folders.sync(path.parent)
            self._clerk.now(arrival)
        return Answer(SUCCESS)

    def _arrival(self, incoming: Incoming, identity: Identity, sender: str) -> Arrival:
        study_key, series_key = safe_name(identity.study_instance_uid), safe_name(identity.series_instance_uid)
        path = self._data.received(study_key, series_key, identity.sop_instance_uid, incoming.digest)
        relative = str(path)[len(str(self._data.root)) + 1 :]
        return Arrival(identity, incoming.digest, relative, incoming.size, sender)

    def _write_file(self, arrival: Arrival, kept: Kept) -> None:
        """Nobody reads it before it has its row. Where the same bytes lie already, these take their place whole."""
        path, file = self._data.root / arrival.path, kept.read()
        try:
            _write_new(path, file)
        except FileExistsError:
            temporary = self._data.incoming / path.name
            temporary.write_bytes(file)
            temporary.replace(path)
        except FileNotFoundError:  # somebody has just removed the study's folder
            self._folders.forget(path.parent)
            self._folders.make(path.parent)
            _write_new(path, file)

    def _tidy(self, quiet: bool) -> None:
        """Free what can be freed of the journal, beside everything else."""
        if self._tidying.done():
            self._tidying = self._syncs.submit(self._tidy_now, quiet)

    def _tidy_now(self, quiet: bool) -> None:
        try:
            self._journal.tidy(self._settle_files, current_too=quiet)
        except OSError as error:
            log.error("the journal cannot be tidied: %s", error)

    def _settle_files(self, paths: Sequence[Path], again: Iterable[Record]) -> None:
        for arrival, record in intact(again):
            if (path := self._data.root / arrival.path).exists():  # else the study was removed meanwhile
                write_durably(record.head + record.content, path, self._data.incoming)
        list(self._syncs.map(_sync_files, [paths[first::_SYNCS_AT_ONCE] for first in range(_SYNCS_AT_ONCE)]))
        for folder in {path.parent for path in paths}:
            with contextlib.suppress(FileNotFoundError):  # the study was removed meanwhile
                self._folders.sync(folder)

    def _refused(self, arrival: Arrival, error: Exception) -> None:
        """Acknowledged, and yet its row cannot be written: it stays where it is, and a person has to look."""
        log.error("an instance from %s cannot be recorded and is in quarantine: %s", arrival.sender, error)
        reason = f"it cannot be recorded: {type(error).__name__}"
        study = arrival.identity.study_instance_uid
        self._write_quarantined(arrival.digest, arrival.path, arrival.size, arrival.sender, reason, study)

    def _quarantine(self, incoming: Incoming, answer: Answer, sender: str, claimed_study: str) -> Answer:
        digest = incoming.digest
        path = self._data.quarantined(digest)
        self._folders.make(path.parent)
        incoming.complete()
        incoming.move_to(path)
        self._folders.sync(path.parent)
        log.warning("quarantined an instance from %s: %s", sender, answer.comment)
        relative = path.relative_to(self._data.root).as_posix()
        self._write_quarantined(digest, relative, incoming.size, sender, answer.comment, claimed_study)
        return answer

    def _write_quarantined(
        self, digest: str, path: str, size: int, sender: str, reason: str, claimed_study: str
    ) -> None:  # fmt: skip
        with writing(self._engine) as session:
            if session.scalar(select(Quarantined.id).where(Quarantined.digest == digest)) is None:
                row = Quarantined(
                    digest=digest, path=path, size=size, sender=sender, reason=reason, claimed_study=claimed_study
                )
                session.add(row)


def _why_not(identity: Identity, announced: str) -> Answer | None:
    """What sends an instance that can be read into quarantine all the same."""
    if identity.truncated:
        return Answer(CANNOT_UNDERSTAND, "the pixel data end early: truncated")
    if identity.sop_class_uid != announced:
        why = f"announced as SOP class {announced}, but the dataset says {identity.sop_class_uid}"
        return Answer(DOES_NOT_MATCH_SOP_CLASS, why)
    return None


def _write_new(path: Path, file: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, file)
    finally:
        os.close(descriptor)


def _sync_files(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # the study was removed meanwhile
            sync(path)


def _claimed_study(incoming: Incoming) -> str:
    """The study that a broken dataset says it belongs to, as far as it can be read at all."""
    with incoming.view() as content:
        head = BytesIO(content[:_HEAD])
    try:
        dataset = dcmread(head, specific_tags=["StudyInstanceUID"], stop_before_pixels=True, force=True)
        return str(dataset.get("StudyInstanceUID", ""))
    except Exception:  # noqa: BLE001 - it is broken, in whatever way; the reason is known already
        return ""
