"""The node's database: SQLite in WAL mode, one file shared with the durable engine (engine notes 5 and 9)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, ExceptionContext, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, configure_mappers

from node.files import make_data_folder
from node.settings import Settings

_MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseError(Exception):
    """The database cannot be used; the text says why and what to do."""


def open_database(settings: Settings) -> Engine:
    """An engine on the node's database. Success of a commit means fsynced (synchronous=FULL).

    Raises OSError with the remedy when there is no data folder and none can be made.
    """
    make_data_folder(settings.node.data)
    engine = create_engine(settings.database_url)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"  # as the durable engine has it on the same file
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "handle_error", _full_is_locked)
    configure_mappers()  # now, and not while the first caller waits for his association
    return engine


def has_database(settings: Settings) -> bool:
    """Whether a node was ever started with these settings. Raises DatabaseError where this user cannot see that."""
    try:
        return settings.database_file.exists()
    except PermissionError as error:
        why = "cannot be seen by this user: do this as the user who runs the node"
        raise DatabaseError(f"{settings.database_file} {why}") from error


def existing_database(settings: Settings) -> Engine:
    """For whoever looks or decides beside the node: a database that he made would belong to him, and not to the user
    who runs it. Raises DatabaseError with the remedy."""
    if not has_database(settings):
        raise DatabaseError(
            f"there is no database {settings.database_file}: start the node with this configuration first "
            "(`quarterdose run`), or name another one by --config"
        )
    engine = open_database(settings)
    ready(engine)
    return engine


def _full_is_locked(context: ExceptionContext) -> OperationalError | None:
    """A full disk in the words in which the durable engine (3.4.0) waits and tries again: it knows "database is locked"
    and takes anything else for the end, which would leave a workflow neither running nor ended until the next start.
    """
    error = context.original_exception
    if not isinstance(error, sqlite3.OperationalError) or str(error) not in _NO_ROOM:
        return None
    told = sqlite3.OperationalError(f"{error}: until there is room, the database is locked")
    return OperationalError(context.statement, context.parameters, told)


_NO_ROOM = ("database or disk is full", "disk I/O error")  # the latter where a shared-memory file cannot grow


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A transaction that holds the write lock from its first *read*, committed at the end of the block.

    Python's sqlite3 begins one only before the first INSERT, UPDATE or DELETE: what was read before that may have been
    changed by another thread or process meanwhile. Whoever reads in order to decide what to write uses this.
    """
    with Session(engine) as session, session.begin():
        session.execute(text("BEGIN IMMEDIATE"))
        yield session


def upgrade(engine: Engine) -> str:
    """Bring the node's tables and the durable engine's to what this version needs; returns the revision of ours.

    Raises DatabaseError for a database that cannot be used, or that a newer version has made.
    """
    from alembic import command  # both are heavy, and of no use to who only reads and writes rows
    from alembic.config import Config
    from dbos import run_dbos_database_migrations

    current = current_revision(engine)
    if current is not None and current > newest_revision():
        raise DatabaseError(_is_newer(current))
    run_dbos_database_migrations(engine.url.render_as_string(hide_password=False))
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        # All of it or nothing, and one process at a time: sqlite3 would run each statement in a transaction of its own.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return newest_revision()


def newest_revision() -> str:
    """The revision this version of the product works with: the last of those in node/migrations/versions."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("rev_*.py")).split("_")[1]


def current_revision(engine: Engine) -> str | None:
    """The revision of the database, None when it is empty. Raises DatabaseError when it cannot be used at all."""
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    except DBAPIError as error:
        raise DatabaseError(cannot_be_used(error, f"the database {engine.url.database}")) from error


def cannot_be_used(error: DBAPIError, database: str = "the database") -> str:
    """Why, and what to do, for a person."""
    cause = str(error.orig)
    if "locked" in cause:
        return f"{database} is held by something else ({cause}): end that, or try again"
    if "not a database" in cause or "malformed" in cause:
        return f"{database} is damaged ({cause}): stop the node and put a backup in its place (docs/operating.md)"
    return f"{database}: {cause}; run this as the user who runs the node, who may read and write there"


def why_not_ready(current: str) -> str | None:
    """What is wrong with a database of the revision ``current``, and the remedy; None where it is what this needs."""
    newest = newest_revision()
    if current > newest:
        return _is_newer(current)
    if current < newest:
        return (
            f"the database is at revision {current}, this version needs {newest}: "
            "back up the data folder, then run `quarterdose db upgrade`"
        )
    return None


def _is_newer(current: str) -> str:
    return (
        f"the database is at revision {current}, this version knows those up to {newest_revision()}: "
        "install the newer version of Quarterdose again, or put back the backup from before its `db upgrade`"
    )


def ready(engine: Engine) -> None:
    """Create the schema of a new database; refuse an old one: an upgrade is a person's decision, after a backup.

    Raises DatabaseError with the remedy.
    """
    current = current_revision(engine)
    if current is None:
        upgrade(engine)
    elif wrong := why_not_ready(current):
        raise DatabaseError(wrong)
