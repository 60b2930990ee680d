"""The command line: the roof of the house. Each command parses, calls one thing, and prints."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import DBAPIError

from node.actions import UnknownStudyError
from node.cli import (
    cohorts,
    database,
    demonstration,
    events,
    models,
    network,
    retrieving,
    routing,
    running,
    simulation,
    studies,
    training,
)
from node.database import DatabaseError, cannot_be_used
from node.engine import AlreadyRunningError
from node.errors import CommandError
from node.sender import NotOfferedError, SendError
from node.settings import ConfigurationError
from node.states import TransitionError

app = typer.Typer(
    name="quarterdose",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="A DICOM node that gives radiology full-dose contrast from a quarter of the gadolinium.",
    epilog="Exit codes: **0** done · **1** it was tried and failed · **2** wrong usage or configuration · "
    "**3** no such study.",
)
running.add_to(app)
demonstration.add_to(app)
simulation.add_to(app)
network.add_to(app)
training.add_to(app)
retrieving.add_to(app)
events.add_to(app)
app.add_typer(studies.app, name="studies")
app.add_typer(routing.app, name="rules")
app.add_typer(models.app, name="models")
app.add_typer(cohorts.app, name="cohort")
app.add_typer(database.app, name="db")

_FAILED, _USAGE, _UNKNOWN = 1, 2, 3
_EXIT_CODES: dict[type[Exception], int] = {
    ConfigurationError: _USAGE,
    DatabaseError: _USAGE,
    AlreadyRunningError: _FAILED,
    SendError: _FAILED,
    NotOfferedError: _FAILED,
    CommandError: _FAILED,
    TransitionError: _FAILED,
    OSError: _FAILED,
    UnknownStudyError: _UNKNOWN,
}


def main() -> None:
    """Entry point of the console script: errors that were foreseen are one line, not a traceback."""
    try:
        app()
    except DBAPIError as error:
        _end(cannot_be_used(error), _FAILED)
    except tuple(_EXIT_CODES) as error:
        _end(_told(error), next(code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)))


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _end(why: str, code: int) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(why)}", highlight=False, soft_wrap=True)
    sys.exit(code)
