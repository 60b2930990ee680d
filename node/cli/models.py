"""`quarterdose models`: which weights the node uses, who decided so and why, and how those fare that are only tried."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy.orm import Session

from node.actions import person
from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.database import existing_database, has_database
from node.errors import CommandError
from node.files import DataFolder
from node.models.standing import Standing
from node.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from node.models.registry import KnownModel
    from node.models.shadow import Summary

app = typer.Typer(no_args_is_help=True, help="The weights this node uses, and those it tries or has retired.")
Which = Annotated[str, typer.Argument(help="A model's name, the beginning of its digest, or a model folder.")]
Because = Annotated[str, typer.Option(help="Why: recorded with the decision.")]

_COLOURS = {Standing.PROMOTED: "green", Standing.SHADOW: "yellow", Standing.RETIRED: "red"}


@app.command("list")
def list_models(config: Config = DEFAULT, as_json: AsJson = False) -> None:
    """Every model: the shipped ones, and those that were taken in."""
    rows = [_row(known, summary) for known, summary in _models(config)]
    if as_json:
        print_json(rows)
        return
    whole = Column("model, digest", overflow="fold", min_width=14)  # for commands ask for it
    table = Table(whole, "takes", "standing", "since (UTC), by", "why", "tried on")
    for row in rows:
        colour = _COLOURS.get(Standing(row["standing"]), "cyan")
        tried = str(row["shadow"]["studies"]) if row["shadow"] else ""
        named = f"{escape(row['name'])}\n[dim]{row['digest'][:12]}[/]"
        cells = (f"{row['since']} {row['who']}", row["why"], tried)
        table.add_row(
            named, ", ".join(row["roles"]), f"[{colour}]{row['standing']}[/]", *(escape(cell) for cell in cells)
        )  # fmt: skip
    Console().print(table)


@app.command()
def show(which: Which, config: Config = DEFAULT, as_json: AsJson = False) -> None:
    """One model: its card, what was decided about it, and how far its results lie from those that were sent."""
    from model.card import CardError, ModelCard
    from node.models.registry import find_model

    models = _models(config)
    known = find_model([one for one, _ in models], which)
    row = _row(known, next(summary for one, summary in models if one is known))
    try:
        card = ModelCard.read(known.folder)
    except CardError as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json({**row, "card": asdict(card)})
        return
    console = Console()
    console.print(Markdown(card.markdown()))
    decided = f" since {row['since']} by {row['who']}: {row['why']}" if row["since"] else ""
    console.print(f"\n[bold]{row['standing']}[/]{escape(decided)}")
    if row["shadow"]:
        found = row["shadow"]
        console.print(
            f"tried on {found['studies']} studies, against what was sent (inside the brain, medians): PSNR "
            f"{_decibels(found['psnr'])}, SSIM {found['ssim']:.4f}, mean difference {found['difference']:+.4f}, "
            f"{found['seconds']:.1f} s; farthest apart: {_decibels(found['lowest_psnr'])} in study "
            f"{found['farthest_study']}"
        )


@app.command()
def promote(which: Which, because: Because, config: Config = DEFAULT) -> None:
    """Use this model, before shipped ones, for studies that have what it takes. `retire` and `shadow` end that."""
    _decide(config, which, Standing.PROMOTED, because)


@app.command()
def shadow(which: Which, because: Because, config: Config = DEFAULT) -> None:
    """Run this model beside the one in use on every study, compare the two and send nothing of it.

    One that was in use itself, a shipped one too, is used no longer until it is promoted.
    """
    _decide(config, which, Standing.SHADOW, because)


@app.command()
def retire(which: Which, because: Because, config: Config = DEFAULT) -> None:
    """Use this model no more, not even where a rule or the configuration names it. Undone by `promote`."""
    _decide(config, which, Standing.RETIRED, because)


def _decide(config: Path, which: str, standing: Standing, because: str) -> None:
    from model.card import CardError  # here, for torch takes seconds to load
    from model.store import WeightsError
    from node.models.registry import decide, in_use

    settings = load_settings(config)
    engine = existing_database(settings)
    try:
        model = decide(engine, DataFolder(settings.node.data), which, standing, person(), because)
    except (CardError, WeightsError) as error:
        raise CommandError(str(error)) from error
    typer.echo(f"{model.label} is {standing}; it takes {', '.join(model.roles)}")
    used = [f"{one.label} for {', '.join(one.roles)}" for one in in_use([known for known, _ in _models(config)])]
    typer.echo(f"results are now sent of {', '.join(used)}")


def _models(config: Path) -> list[tuple[KnownModel, Summary | None]]:
    from model.card import CardError
    from model.store import WeightsError
    from node.models.registry import known_models, shipped_models
    from node.models.shadow import summarise

    settings = load_settings(config)
    try:
        if not has_database(settings):
            return [(model, None) for model in shipped_models()]
        with Session(existing_database(settings)) as session:
            known = known_models(session, DataFolder(settings.node.data))
            return [(model, summarise(session, model.digest)) for model in known]
    except (CardError, WeightsError) as error:
        raise CommandError(str(error)) from error


def _row(known: KnownModel, summary: Summary | None) -> dict[str, Any]:
    found = None if summary is None else asdict(summary)
    if found is not None:  # JSON knows no infinity: equal images have no PSNR
        found |= {name: None if found[name] == float("inf") else found[name] for name in ("psnr", "lowest_psnr")}
    return {
        "name": known.name,
        "digest": known.digest,
        "folder": str(known.folder),
        "roles": [str(role) for role in known.roles],
        "standing": known.standing,
        "since": known.since.isoformat(sep=" ", timespec="seconds")[:19] if known.since else "",
        "who": known.who,
        "why": known.why,
        "shadow": found,
    }


def _decibels(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f} dB"
