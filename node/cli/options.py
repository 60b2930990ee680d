"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from node.settings import DEFAULT_CONFIG

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The node's configuration file.", envvar="QUARTERDOSE_CONFIG")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of a table for a person.")]
DEFAULT = Path(DEFAULT_CONFIG)


def print_json(data: Any) -> None:
    """To standard output, as it is: no colours, no wrapping."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
