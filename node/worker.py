"""The numeric process: one resident child that keeps the networks loaded and does the heavy steps, one at a time.

A synchronous step cannot be stopped in its middle, a process can (engine note 7). Every step writes to a temporary
name and renames, so that repeating it after the child was killed is harmless.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import pydicom.config

from node.errors import CancelledError, StudyError
from node.patience import OutOfResourcesError, is_out_of_resources
from node.settings import Settings

log = logging.getLogger(__name__)

_spawn = multiprocessing.get_context("spawn")
_POLL_SECONDS = 0.5


class WorkerDiedError(Exception):
    """The numeric process ended in the middle of a step: out of memory, or killed. The step may be repeated."""


class StepCrashedError(Exception):
    """A step raised something that nobody foresaw; the text holds the traceback."""


class Worker:
    """The parent's end. ``run`` may be called from one thread at a time; it starts the child when there is none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._busy = threading.Lock()

    def start(self) -> None:
        """Start the child ahead of the first study, so that loading the libraries costs no study its time."""
        self._connection()

    @property
    def is_alive(self) -> bool:
        """Whether there is a child; ``run`` starts one when there is none."""
        return self._process is not None and self._process.is_alive()

    def run(self, step: str, study_id: int, cancelled: Callable[[], bool]) -> None:
        """Do one step of node.steps in the child and wait for it.

        Raises StudyError, CancelledError, WorkerDiedError, OutOfResourcesError or StepCrashedError.
        """
        with self._busy:
            pipe = self._connection()
            try:
                kind, text = _ask(pipe, step, study_id, cancelled)
            except (EOFError, BrokenPipeError, ConnectionResetError) as error:
                code = self._process.exitcode if self._process else None
                self.stop()
                raise WorkerDiedError(f"the numeric process ended during {step} (exit code {code})") from error
            except BaseException:
                self.stop()  # its answer must not be taken for that of the next step
                raise
        if kind == "study":
            raise StudyError(text)
        if kind == "resources":
            raise OutOfResourcesError(text)
        if kind == "crash":
            raise StepCrashedError(text)

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _connection(self) -> Connection:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self._pipe, theirs = _spawn.Pipe()
            self._process = _spawn.Process(target=_serve, args=(self._settings, theirs), name="numeric", daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe


def _ask(pipe: Connection, step: str, study_id: int, cancelled: Callable[[], bool]) -> tuple[str, str]:
    """Have the child do a step, and wait for its answer. Raises CancelledError, or what says that the child is gone."""
    pipe.send((step, study_id))
    while not pipe.poll(_POLL_SECONDS):
        if cancelled():
            raise CancelledError(f"cancelled during {step}")
    kind, text = pipe.recv()
    return kind, text


def _serve(settings: Settings, pipe: Connection) -> None:
    """The child's life: read a step's name, do it, answer, until the parent is gone."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "dbos"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # as in node.service
    from node import steps  # loads torch and SimpleITK: in this process only
    from node.room import Room

    room = Room.open(settings)
    while True:
        try:
            step, study_id = pipe.recv()
        except EOFError:
            return
        try:
            steps.STEPS[step](room, study_id)
        except StudyError as error:
            pipe.send(("study", str(error)))
        except Exception as error:  # noqa: BLE001 - the parent must be told, whatever it was; it becomes the reason
            if is_out_of_resources(error):
                pipe.send(("resources", f"{step}: {error}"))
            else:
                pipe.send(("crash", traceback.format_exc()))
        else:
            pipe.send(("done", ""))


def _follow_parent() -> None:
    """Die with the parent, even when it was killed with -9: nobody else would ever read our result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
