"""`quarterdose events`: who did what, when and why, over all studies and beside them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.orm import Session

from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.database import existing_database
from node.report import event_lines
from node.settings import load_settings


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(events)


def events(
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="So many, the newest.")] = 50,
    node: Annotated[
        bool, typer.Option("--node", help="Only what belongs to no study: callers refused, what is not taken, models.")
    ] = False,
    config: Config = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """What happened last, the newest at the end; `studies show` has those of one study."""
    with Session(existing_database(load_settings(config))) as session:
        rows = event_lines(session, last, without_study=node)
    if as_json:
        print_json(rows)
        return
    table = Table("when (UTC)", "study", "who", "what", "why")
    for row in rows:
        table.add_row(row["at"], row["study"][:8], escape(row["who"]), escape(row["what"]), escape(row["why"]))
    Console().print(table)
