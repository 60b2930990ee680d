"""The node's log: one line an event in one form, the libraries beneath it heard only when something is wrong."""

from __future__ import annotations

import logging

from dbos import error as dbos_error

from node.errors import CancelledError, StudyError
from node.worker import WorkerDiedError

# The engine logs every workflow that raises with a traceback. These are no defects: a study that cannot be processed,
# of which the node has told already, and one that a person cancelled.
_EXPECTED = (
    StudyError, CancelledError, WorkerDiedError,
    dbos_error.DBOSMaxStepRetriesExceeded, dbos_error.DBOSAwaitedWorkflowCancelledError,
)  # fmt: skip


def begin() -> None:
    """Log to the standard error stream, from INFO on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pynetdicom").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = logging.getLogger("dbos")
    engine.setLevel(logging.WARNING)
    engine.propagate = False  # it adds a handler of its own, with a form of its own, only where there is none
    for handler in logging.getLogger().handlers:
        engine.addHandler(handler)
    engine.addFilter(without_what_is_expected)


def without_what_is_expected(record: logging.LogRecord) -> bool:
    """Whether a record of the engine's is to be logged; that a run was cancelled becomes one line."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, dbos_error.DBOSAwaitedWorkflowCancelledError):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.msg, record.args = "%s", (str(error),)
        record.exc_info = record.exc_text = None
        return True
    return not isinstance(error, _EXPECTED)
