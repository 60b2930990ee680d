"""`quarterdose cohort`: who a network is trained and judged on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.cli.training_options import INPUT_ROLES, input_role
from node.database import existing_database
from node.errors import CommandError
from node.settings import load_settings
from preprocessing.role import CHANNELS, Role

if TYPE_CHECKING:
    from model.gather import Gathered, Session

app = typer.Typer(no_args_is_help=True, help="Folders of prepared subjects that a network is trained and judged on.")
Folder = Annotated[Path, typer.Argument(help="The cohort's folder.")]


@app.command()
def add(
    cohort: Folder,
    from_simulator: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A folder that `quarterdose simulate --network-grid` wrote."),
    ] = None,
    from_prepared: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A folder of prepared studies with their full dose, NAME.npz, each a patient; NAME.lesion.npy beside "
            "one is its mask of enhancing lesions.",
        ),
    ] = None,
    from_node: Annotated[
        bool,
        typer.Option("--from-node", help="This node's studies that have a full dose; prepared now, minutes each."),
    ] = False,
    from_dicom: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False,
            help="A folder of DICOM studies in any nesting; prepared now, minutes each. A DICOM Segmentation in a "
            "study gives its enhancing lesions.",
        ),
    ] = None,
    from_nifti: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False,
            help="A folder in the layout of BraTS: per session a folder with …t1n, …t1c, …t2f, …seg as .nii.gz.",
        ),
    ] = None,
    simulate_low_dose: Annotated[
        bool,
        typer.Option(
            "--simulate-low-dose",
            help="Where --from-nifti finds no low dose, T1 + 0.3 (T1ce - T1) with noise; the session's name says so.",
        ),
    ] = False,
    role: Annotated[
        list[Role] | None,
        typer.Option(
            help="An input that every subject must have; repeat it. Default: all four.",
            parser=input_role, metavar=INPUT_ROLES,
        ),
    ] = None,
    reject: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file of sessions to leave out: a name and why on each line."),
    ] = None,
    shrink: Annotated[
        int, typer.Option(min=1, help="Voxels this many times as wide, to rehearse on a small machine.")
    ] = 1,
    config: Config = DEFAULT,
) -> None:
    """Add to a cohort: of each patient the first complete session that nobody rejected.

    Who is left out is printed with the reason, and kept in the cohort's left_out.json.
    """
    from model.gather import gather
    from node.cohort import prepared, received, simulated
    from node.cohort_dicom import from_dicom as dicom_sessions
    from node.cohort_nifti import from_nifti as nifti_sessions
    from node.cohort_subject import Preparing
    from node.steps import preparation_settings

    roles = tuple(one for one in CHANNELS if one in (role or CHANNELS))
    console = Console()
    with reported(), console.status("") as status:
        sessions: list[Session] = []

        def told(doing: str, share: float) -> None:
            status.update(f"{doing} {share:.0%}")

        if from_simulator:
            sessions += simulated(from_simulator, roles)
        if from_prepared:
            sessions += prepared(from_prepared, roles)
        if from_node:
            settings = load_settings(config)
            sessions += received(settings, existing_database(settings), Preparing.of(settings, roles, told))
        if from_dicom:
            settings = load_settings(config)
            status.update(f"reading headers in {from_dicom}")
            sessions += dicom_sessions(from_dicom, settings.roles, Preparing.of(settings, roles, told))
        if from_nifti:
            preparation = preparation_settings(load_settings(config).work)
            sessions += nifti_sessions(
                from_nifti, roles, preparation, told, simulate_low_dose=simulate_low_dose
            )
        if not (from_simulator or from_prepared or from_node or from_dicom or from_nifti):
            raise typer.BadParameter(
                "nothing to add: give --from-simulator, --from-prepared, --from-dicom, --from-nifti or --from-node"
            )
        results = gather(
            cohort, roles, sessions, rejected=_rejected(reject), shrunk=shrink, told=lambda one: _tell(console, one)
        )
    joined = sum(not one.why for one in results)
    typer.echo(f"{joined} of {len(results)} sessions are in {cohort}")
    if joined == 0:
        raise CommandError("no session could join: the reasons are above")


@app.command()
def show(cohort: Folder, as_json: AsJson = False) -> None:
    """Who is in a cohort, from which anatomy, with how much lesion; and who was left out, and why."""
    from model.gather import describe

    with reported():
        content = describe(cohort)
    if as_json:
        print_json(asdict(content))
        return
    console = Console()
    console.print(
        f"{len(content.subjects)} subjects of {content.anatomies} anatomies; "
        f"inputs {', '.join(content.roles)}; voxels of {content.voxel_mm:g} mm, {content.shape}\n"
        f"digest {content.digest}",
        highlight=False,
    )
    columns = ("name", "patient", "anatomy", "lesions", "lesion_ml", "brain_ml", "quality")
    _print("subjects", columns, content.subjects, console)
    if content.left_out:
        _print("left out", ("session", "patient", "why"), content.left_out, console)


@contextmanager
def reported() -> Iterator[None]:
    """What the cohort or the training says is wrong becomes the command's one-line error."""
    from torch import OutOfMemoryError

    from model.cohort import CohortError
    from model.train import TrainingError

    try:
        yield
    except OutOfMemoryError as error:
        remedy = "end what else runs there, or make --channels, batch or crop smaller"
        raise CommandError(f"{str(error).partition('. ')[0]}: {remedy}") from error
    except (CohortError, TrainingError, ValueError, OSError) as error:
        raise CommandError(str(error)) from error


def _print(title: str, names: tuple[str, ...], rows: Iterable[object], console: Console) -> None:
    table = Table(*(Column(name.replace("_", " "), overflow="fold") for name in names), title=title)
    for row in rows:
        table.add_row(*(escape(str(getattr(row, name))) for name in names))
    console.print(table)


def _rejected(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    lines = (line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip())
    return {words[0]: words[1] if len(words) > 1 else "no reason given" for words in lines}


def _tell(console: Console, one: Gathered) -> None:
    fate = f"[yellow]left out[/]: {escape(one.why)}" if one.why else "[green]in[/]"
    console.print(f"{escape(one.session.name)}: {fate}", highlight=False, soft_wrap=True)
