"""`quarterdose send` and `quarterdose echo`, what DCMTK's storescu and echoscu do, from our own configuration; and what
peers want to know of us."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from pydicom.misc import is_dicom
from rich.progress import track

from node.association import Peer
from node.cli.options import DEFAULT, Config
from node.deliver import peer_of
from node.receive.tls import context_of_a_caller
from node.receive.users import line_for
from node.scu import StorageScu
from node.scu import echo as echo_peer
from node.sender import Outgoing, SendError
from node.settings import DimseDestination, load_settings

_PEER = re.compile(r"(?P<ae>[^@]{1,16})@(?P<host>[^:@]+|\[[0-9A-Fa-f:]+\]):(?P<port>[0-9]{1,5})")
To = Annotated[
    str, typer.Option("--to", help="AE@host:port, or the name of a destination in the configuration, or `node`: us.")
]
CallingAs = Annotated[str, typer.Option("--as", help="The AE title we call ourselves; default: the node's own.")]


def add_to(app: typer.Typer) -> None:
    app.command()(send)
    app.command()(echo)
    app.command()(user)
    app.command()(conformance)


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders that hold them.", exists=True)],
    to: To,
    calling: CallingAs = "",
    config: Config = DEFAULT,
) -> None:
    """Send DICOM files by C-STORE. Stops at the first instance that is not taken, with the peer's answer.

    What is no DICOM file in a folder is left out, and counted.
    """
    chosen, left_out = _files(paths)
    files = [Outgoing.of(path) for path in chosen]
    if not files:
        raise SendError(f"there is no DICOM file in {', '.join(str(path) for path in paths)}")
    peer = _peer(config, to, calling)
    with StorageScu(peer, files) as scu:
        for file in track(files, f"to {peer}", transient=True):
            scu.store(file)
    typer.echo(f"{len(files)} instances are at {peer}" + (f"; {left_out} files are no DICOM" if left_out else ""))


def echo(to: To, calling: CallingAs = "", config: Config = DEFAULT) -> None:
    """Ask a peer whether it is there and lets us in (C-ECHO)."""
    peer = _peer(config, to, calling)
    echo_peer(peer)
    typer.echo(f"{peer} answers")


def conformance(config: Config = DEFAULT) -> None:
    """Print the DICOM Conformance Statement of this version with these settings, in Markdown."""
    from node.conformance import statement  # here, for the derived objects' code takes a second to load

    typer.echo(statement(load_settings(config)), nl=False)


def user(
    name: Annotated[str, typer.Argument(help="The user name that a caller sends (user identity negotiation).")],
    passcode: Annotated[
        str,
        typer.Option(
            prompt=True, hide_input=True, confirmation_prompt=True, show_default=False, help="Asked for when left out.",
        ),
    ] = "",
) -> None:
    """Make the line for a user of receiver.user_identities: name, salt and hashed passcode."""
    if not name or name != name.strip() or name.startswith("#") or not name.isprintable():
        raise typer.BadParameter(f"{name!r}: a name begins with a visible character other than # and is one line")
    if not passcode:
        raise typer.BadParameter("an empty passcode would let in whoever leaves it out")
    typer.echo(line_for(name, passcode))


def _files(paths: list[Path]) -> tuple[list[Path], int]:
    """The files that are named, and in folders those of PS3.10 but for a DICOMDIR; how many others are there."""
    named = [path for path in paths if not path.is_dir()]
    inside = sorted(file for path in paths if path.is_dir() for file in path.rglob("*") if file.is_file())
    dicom = [file for file in inside if file.name != "DICOMDIR" and is_dicom(file)]
    return named + dicom, len(inside) - len(dicom)


def _peer(config: Path, to: str, calling: str) -> Peer:
    parsed = _PEER.fullmatch(to)
    if parsed and not 0 < int(parsed["port"]) < 1 << 16:
        raise typer.BadParameter(f"{to!r}: a port is 1 to 65535")
    if parsed and calling:
        return Peer(parsed["ae"], parsed["host"].strip("[]"), int(parsed["port"]), calling)
    settings = load_settings(config)
    ours = calling or settings.node.ae_title
    if parsed:
        return Peer(parsed["ae"], parsed["host"].strip("[]"), int(parsed["port"]), ours)
    if to == "node":
        receiver = settings.receiver
        tls = None if receiver.tls is None else context_of_a_caller(receiver.tls)
        return Peer(settings.node.ae_title, receiver.host, receiver.port, ours, tls=tls)
    for destination in settings.destination:
        if destination.name == to and isinstance(destination, DimseDestination):
            return peer_of(destination, ours, 30.0)
    names = ", ".join(place.name for place in settings.destination if isinstance(place, DimseDestination)) or "none"
    raise typer.BadParameter(f"{to!r} is neither AE@host:port nor a DICOM destination of {config} (those are: {names})")
