"""`quarterdose run` and `quarterdose check`."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node import log
from node.checks import check_everything
from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.service import run as run_node
from node.settings import load_settings


def add_to(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(check)


def run(config: Config = DEFAULT) -> None:
    """Start the node: receive, collect, process and deliver, until it is told to stop (SIGTERM, Ctrl-C).

    Whatever was interrupted, even by kill -9, continues where it was.
    """
    settings = load_settings(config)
    log.begin()
    run_node(settings)


def check(config: Config = DEFAULT, as_json: AsJson = False) -> None:
    """Look over everything the node needs: folders, disk, database, weights, port, destinations, sources.

    Exit code 1 when something would keep it from working.
    """
    findings = check_everything(load_settings(config))
    if as_json:
        print_json([{"what": f.what, "ok": f.ok, "found": f.found} for f in findings])
    else:
        table = Table("", "what", "found")
        for finding in findings:
            table.add_row("[green]ok[/]" if finding.ok else "[red]no[/]", escape(finding.what), escape(finding.found))
        Console().print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
