"""`quarterdose demo`."""

from __future__ import annotations

import logging
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from node.cli.options import DEFAULT, Config


class PacsKind(StrEnum):
    """Who plays the PACS."""

    ARCHIVE = "archive"
    ORTHANC = "orthanc"


def add_to(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    pacs: Annotated[PacsKind, typer.Option(help="The simulator's archive, or a real Orthanc process.")] = (
        PacsKind.ARCHIVE
    ),
    out: Annotated[Path, typer.Option(help="Where everything goes; an earlier demonstration there is replaced.")] = (
        Path("demo")
    ),
    seed: Annotated[int, typer.Option(help="Which patient; 4 has a glioblastoma.")] = 4,
    anatomy: Annotated[Path | None, typer.Option(help="A folder of head label maps to simulate from.")] = None,
    config: Config = DEFAULT,
) -> None:
    """The whole path on this machine: simulate a patient, send the study to a PACS, get the virtual series back."""
    from node.demo import Demonstration  # torch and SimpleITK take seconds to load: no other command should wait

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    console = Console(highlight=False)
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {escape(line)}")

    with Progress(
        TextColumn("          {task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=1.0)

        def progress(doing: str, share: float) -> None:
            bar.update(task, description=doing, completed=share)

        result = Demonstration(out, config, pacs, seed, anatomy, say, progress).run()
    took = time.monotonic() - began
    console.print(f"\n[bold green]The virtual series is in the PACS, {took:.0f} s after the start.[/]")
    for line in result.lines():
        console.print(escape(line), soft_wrap=True)
