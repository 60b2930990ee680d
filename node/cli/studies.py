"""`quarterdose studies`: what came, what became of it and why; and what a person may do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import actions
from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.database import existing_database
from node.engine import WorkStarter, is_at_work
from node.quality.verdict import Verdict
from node.report import describe_quarantined, describe_study, study_lines
from node.routing.rules import Priority
from node.settings import Settings, load_settings
from node.states import WORKING, State
from node.tables import Quarantined

app = typer.Typer(no_args_is_help=True, help="The studies this node has received.")
Name = Annotated[str, typer.Argument(help="The study's key (its first letters are enough), UID or accession number.")]

_COLOURS = {
    State.DELIVERED: "green", State.FAILED: "red", State.REJECTED: "red", State.INCOMPLETE: "yellow",
    State.CANCELLED: "yellow",
}  # fmt: skip


@app.command("list")
def list_studies(
    state: Annotated[State | None, typer.Option(help="Only studies in this state.")] = None,
    config: Config = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Every study with its state, the newest first."""
    _, engine = _open(config)
    with Session(engine) as session:
        rows = study_lines(session, state)
        held = session.scalars(select(Quarantined)).all()
    if as_json:
        print_json(rows)
        return
    table = Table("key", "date", "accession", "state", "instances", "why")
    for row in rows:
        colour = _COLOURS.get(State(row["state"]), "cyan")
        table.add_row(
            row["key"][:8], escape(row["study_date"]), escape(row["accession_number"]),
            f"[{colour}]{row['state']}[/]{_priority(row)}", str(row["instances"]),
            escape(row["doing"] or row["reason"]),
        )  # fmt: skip
    Console().print(table)
    if held:
        Console().print(f"{len(held)} in quarantine: `quarterdose studies quarantine` says why")


def _priority(row: dict[str, Any]) -> str:
    """Beside the state of what still waits, where it is not the usual one."""
    waits = State(row["state"]) in WORKING and row["priority"] != Priority.ROUTINE
    return f" [bold]{row['priority']}[/]" if waits else ""


@app.command()
def show(
    name: Name,
    measures: Annotated[
        bool, typer.Option("--measures", help="Every measure of quality control, by its name in config.toml.")
    ] = False,
    config: Config = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """One study: each series with its role and why, what is missing, what was made and sent, and every event."""
    _, engine = _open(config)
    with Session(engine) as session:
        report = describe_study(session, actions.find(session, name))
    if as_json:
        print_json(report)
    else:
        _print_study(report, measures)


@app.command()
def quarantine(config: Config = DEFAULT, as_json: AsJson = False) -> None:
    """What was received but could not be understood: kept, with the reason."""
    _, engine = _open(config)
    with Session(engine) as session:
        rows = [describe_quarantined(row) for row in session.scalars(select(Quarantined).order_by(Quarantined.id))]
    if as_json:
        print_json(rows)
        return
    table = Table("received", "from", "file", "why")
    for row in rows:
        table.add_row(row["received"], escape(row["sender"]), row["path"], escape(row["reason"]))
    Console().print(table)


@app.command()
def retry(name: Name, config: Config = DEFAULT) -> None:
    """Do a failed, cancelled or delivered study again: from the step that failed, or anew when instances were added."""
    settings, engine = _open(config)
    _tell_what_begins(actions.retry(engine, name, settings, WorkStarter(engine)), settings)


@app.command()
def cancel(name: Name, config: Config = DEFAULT) -> None:
    """Stop working on a study. What was received stays; `retry` takes it up again."""
    _, engine = _open(config)
    actions.cancel(engine, name, WorkStarter(engine))
    typer.echo("cancelled")


@app.command()
def force(name: Name, config: Config = DEFAULT) -> None:
    """Process an incomplete study with what is there. Who forced it, and what it lacked, is recorded."""
    settings, engine = _open(config)
    _tell_what_begins(actions.force(engine, name, settings, WorkStarter(engine)), settings)


@app.command()
def accept(
    name: Name,
    because: Annotated[str, typer.Option(help="Why the study is good enough: recorded, and told in the result.")],
    config: Config = DEFAULT,
) -> None:
    """Process a study that quality control rejected. Who accepted it, when and why is recorded."""
    settings, engine = _open(config)
    _tell_what_begins(actions.accept(engine, name, because, WorkStarter(engine)), settings)


def _tell_what_begins(what: str, settings: Settings) -> None:
    """``what`` is where the work is taken up; it is the node that does it."""
    typer.echo(f"it goes on: {what}" if is_at_work(settings) else f"it goes on when a node is started: {what}")


def _open(config: Path) -> tuple[Settings, Engine]:
    settings = load_settings(config)
    return settings, existing_database(settings)


def _print_study(report: dict[str, Any], measures: bool) -> None:
    console = Console()
    colour = _COLOURS.get(State(report["state"]), "cyan")
    console.print(f"study [bold]{report['key']}[/]  {escape(report['study_instance_uid'])}")
    console.print(f"[{colour} bold]{report['state']}[/]  {escape(report['reason'])}")
    if report["doing"]:
        console.print(f"{report['progress']:.0%}  {escape(report['doing'])}")
    if report["route"] and report["route"]["rule"]:
        route = report["route"]
        console.print(f"rule [bold]{escape(route['rule'])}[/]: {escape(route['follows'])} ({escape(route['because'])})")
    for heading in ("held", "missing", "missing_optional"):
        for line in report[heading]:
            console.print(f"[yellow]{heading.replace('_', ' ')}:[/] {escape(line)}")
    series = Table("no", "series", "instances", "role", "because", title="Series", title_justify="left")
    for row in report["series"]:
        series.add_row(
            str(row["number"] or ""), escape(row["description"]), str(row["instances"]),
            f"[bold]{row['role']}[/]" if row["role"] else "none", escape(row["because"]),
        )  # fmt: skip
    console.print(series)
    if report["quality"]:
        _print_quality(console, report["quality"], measures)
    if report["derived"]:
        _print_derived(console, report["derived"])
    for row in report["quarantined"]:
        console.print(f"[red]quarantined[/] {row['path']} from {escape(row['sender'])}: {escape(row['reason'])}")
    events = Table("when (UTC)", "who", "what", "why", title="Events", title_justify="left")
    for row in report["events"]:
        events.add_row(row["at"], escape(row["who"]), escape(row["what"]), escape(row["why"]))
    console.print(events)


def _print_derived(console: Console, derived: list[dict[str, Any]]) -> None:
    """How far each virtual series has come to each destination, and what stands for which instead."""
    table = Table("kind", "series", "to", "state", "attempts", "sent", "error", title="Virtual series")
    for made in derived:
        for row in made["deliveries"]:
            cells = (row["destination"], row["state"], str(row["attempts"]), row["sent"], row["error"])
            table.add_row(made["kind"], f"…{made['series_instance_uid'][-4:]}", *(escape(cell) for cell in cells))
    console.print(table)
    for made in derived:
        if made["superseded_by"]:
            console.print(f"[yellow]superseded:[/] {made['series_instance_uid']} of {made['made']}")
            console.print(f"        by: {made['superseded_by']}")


_VERDICTS = {Verdict.ACCEPT: "green", Verdict.WARN: "yellow", Verdict.REJECT: "red"}


def _print_quality(console: Console, quality: dict[str, Any], measures: bool) -> None:
    """The verdict, what spoke against the study, and every measure where it was asked for: there are a hundred."""
    colour = _VERDICTS[Verdict(quality["verdict"])]
    more = "" if measures else f"  ({len(quality['measures'])} measures: --measures)"
    console.print(f"Quality: [{colour}]{quality['verdict']}[/]{more}")
    for heading, lines in (("rejected", quality["reasons"]), ("warning", quality["warnings"])):
        for line in lines:
            console.print(f"  [{'red' if heading == 'rejected' else 'yellow'}]{heading}:[/] {escape(line)}")
    if quality["accepted_by"]:
        console.print(f"  accepted by {escape(quality['accepted_by'])}: {escape(quality['accepted_because'])}")
    if not measures:
        return
    table = Table("in [quality.limits]", "measure", "value", "verdict", title="Quality", title_justify="left")
    for row in quality["measures"]:
        shade = _VERDICTS[Verdict(row["verdict"])]
        key = ".".join(part for part in (row["name"], row["role"]) if part)
        table.add_row(key, escape(row["label"]), escape(row["text"]), f"[{shade}]{row['verdict']}[/]")
    console.print(table)
