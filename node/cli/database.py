"""`quarterdose db`: the schema of the node's database."""

from __future__ import annotations

import typer

from node.cli.options import DEFAULT, Config
from node.database import open_database
from node.database import upgrade as upgrade_schema
from node.engine import is_at_work
from node.errors import CommandError
from node.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The node's database.")


@app.callback()
def _group() -> None:
    """The node's database."""


@app.command()
def upgrade(config: Config = DEFAULT) -> None:
    """Bring the database to the schema of this version. Stop the node and back up its data folder first."""
    settings = load_settings(config)
    if is_at_work(settings):
        raise CommandError("a node is running on this data folder: stop it, and back up the folder, first")
    revision = upgrade_schema(open_database(settings))
    typer.echo(f"the database is at revision {revision}")
