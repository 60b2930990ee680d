"""`quarterdose pull` and `quarterdose pulls`: studies fetched from a PACS."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node import retrieve
from node.actions import person
from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.database import existing_database, writing
from node.engine import WorkStarter, is_at_work
from node.errors import CommandError
from node.settings import Settings, Source, load_settings
from node.source import StudyFound, is_uid
from node.tables import Pull, now
from node.ways import way_to_ask

app = typer.Typer(no_args_is_help=True, help="Studies being fetched from a PACS.")
_COLOURS = {retrieve.DONE: "green", retrieve.FAILED: "red", retrieve.CANCELLED: "yellow"}


def add_to(root: typer.Typer) -> None:
    root.command()(pull)
    root.add_typer(app, name="pulls")


def pull(
    source: Annotated[str, typer.Option("--from", help="The name of a [[source]]; the first when left out.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
    study: Annotated[str, typer.Option(help="Study Instance UID.")] = "",
    query: Annotated[
        list[str] | None,
        typer.Option(help="A key to search by, StudyDate=20260101-20260131 or StudyDescription=\\*HEAD\\*; repeat it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be fetched, and fetch nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until all of it is here or given up.")] = False,
    config: Config = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Fetch studies from a PACS; the running node does it, with retries, until all has arrived."""
    settings = load_settings(config)
    place = _source(settings, source)
    keys = _keys(accession, study, query or [])
    with way_to_ask(place, settings) as search:
        found = search.studies(keys)
    if not found:
        raise CommandError(f"{place.name} holds no study that matches; `--query` takes other keys")
    if dry_run:
        _show_found(found, as_json)
        return
    at_work = is_at_work(settings)
    if wait and not at_work:
        raise CommandError("no node is running, and it is the node that fetches: start it, or leave --wait out")
    engine = existing_database(settings)
    starter = WorkStarter(engine)
    with writing(engine) as session:
        asked = [
            retrieve.request(session, starter, one.study_instance_uid, place.name, person(), "asked for").id
            for one in found
        ]
    if wait:
        _wait(engine, asked)
    _show_pulls(engine, asked, as_json)
    if not at_work:
        typer.echo("no node is running: it fetches when it is started", err=True)
    if wait and any(pull["state"] != retrieve.DONE for pull in _pulls(engine, asked)):
        raise CommandError("not everything has arrived")


@app.command("list")
def list_pulls(config: Config = DEFAULT, as_json: AsJson = False) -> None:
    """Every study that is being or was fetched, the newest first."""
    _show_pulls(existing_database(load_settings(config)), None, as_json)


@app.command()
def cancel(
    number: Annotated[int, typer.Argument(help="The pull's number in `pulls list`.")], config: Config = DEFAULT
) -> None:
    """Fetch no more of it; what has arrived stays."""
    with writing(existing_database(load_settings(config))) as session:
        found = session.get(Pull, number)
        if found is None or found.state not in retrieve.OPEN:
            raise CommandError(f"there is no pull {number} under way; `quarterdose pulls list` shows them")
        found.state, found.reason, found.ended = retrieve.CANCELLED, f"cancelled by {person()}", now()


def _keys(accession: str, study: str, query: list[str]) -> Dataset:
    keys = Dataset()
    if accession:
        keys.AccessionNumber = accession
    if study:
        if not is_uid(study):
            raise typer.BadParameter(f"{study!r} is no Study Instance UID, which holds digits and dots")
        keys.StudyInstanceUID = study
    for one in query:
        keyword, equals, value = one.partition("=")
        if not equals or tag_for_keyword(keyword) is None:
            raise typer.BadParameter(f"{one!r} is no Keyword=value with a DICOM keyword, such as StudyDate=20260101-")
        if dictionary_VR(keyword) == "DA" and not _DATES.fullmatch(value):
            raise typer.BadParameter(f"{one!r}: dates are written 20260101, 20260101-20260131, 20260101- or -20260131")
        setattr(keys, keyword, value)
    if not keys:
        raise typer.BadParameter("say what to fetch: --accession, --study or --query")
    return keys


_DATES = re.compile(r"\d{8}|\d{8}-(\d{8})?|-\d{8}")  # PS3.4 section C.2.2.2.5


def _source(settings: Settings, name: str) -> Source:
    if not settings.source:
        raise CommandError("the configuration has no [[source]] to fetch from; docs/retrieving.md shows one")
    names = ", ".join(place.name for place in settings.source)
    for place in settings.source:
        if name in ("", place.name):
            return place
    raise typer.BadParameter(f"no [[source]] of the configuration is called {name!r} (those are: {names})")


def _wait(engine: Engine, asked: list[int]) -> None:
    with Console().status("fetching") as status:
        while True:
            rows = _pulls(engine, asked)
            if all(row["state"] not in retrieve.OPEN for row in rows):
                return
            here, total = sum(row["arrived"] for row in rows), sum(row["expected"] for row in rows)
            status.update(f"{here} of {total} instances")
            time.sleep(0.5)


def _pulls(engine: Engine, only: list[int] | None) -> list[dict[str, Any]]:
    chosen = select(Pull).order_by(Pull.id.desc())
    with Session(engine) as session:
        return [
            {
                "number": row.id, "source": row.source, "study_instance_uid": row.study_instance_uid,
                "state": row.state, "arrived": row.arrived, "expected": row.expected, "attempts": row.attempts,
                "asked_by": row.asked_by, "prior_of": row.prior_of, "why": row.reason,
            }
            for row in session.scalars(chosen if only is None else chosen.where(Pull.id.in_(only)))
        ]  # fmt: skip


def _whole_uid() -> Column:
    """However narrow the terminal: `--study` asks for all of it."""
    return Column("study", overflow="fold")


def _show_pulls(engine: Engine, only: list[int] | None, as_json: bool) -> None:
    rows = _pulls(engine, only)
    if as_json:
        print_json(rows)
        return
    table = Table("number", "from", _whole_uid(), "state", "arrived", "attempts", "why")
    for row in rows:
        colour = _COLOURS.get(row["state"], "cyan")
        table.add_row(
            str(row["number"]), row["source"], row["study_instance_uid"], f"[{colour}]{row['state']}[/]",
            f"{row['arrived']} of {row['expected']}", str(row["attempts"]), escape(row["why"]),
        )  # fmt: skip
    Console().print(table)


def _show_found(found: Sequence[StudyFound], as_json: bool) -> None:
    if as_json:
        print_json([vars(one) for one in found])
        return
    table = Table(_whole_uid(), "date", "accession", "modalities", "description")
    for one in found:
        table.add_row(
            one.study_instance_uid, one.study_date, escape(one.accession_number), " ".join(one.modalities),
            escape(one.description),
        )  # fmt: skip
    Console().print(table)
