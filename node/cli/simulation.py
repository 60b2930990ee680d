"""`quarterdose simulate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from node.errors import CommandError
from simulator.scanner import Layout, Scanner, Vendor

if TYPE_CHECKING:
    from simulator.cohort import CohortPlan


def add_to(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    out: Annotated[Path, typer.Option(help="The folder that gets one subfolder for each subject.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many patients.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first patient's seed; the same seed gives the same bytes.")] = 0,
    anatomy: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of head label maps to start from.")
    ] = None,
    from_nifti: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Instead of simulating: a real patient's t1.nii.gz, t1ce.nii.gz and flair.nii.gz, to be wrapped.",
        ),
    ] = None,
    vendor: Annotated[Vendor, typer.Option(help="Whose tags the files carry.")] = Vendor.SIEMENS,
    layout: Annotated[
        Layout, typer.Option(help="One file for each slice, multi-frame files, or mosaics for diffusion (Siemens).")
    ] = Layout.CLASSIC,
    field: Annotated[float, typer.Option(help="Field strength in tesla: 1.5 or 3.")] = 3.0,
    network_grid: Annotated[
        bool,
        typer.Option("--network-grid", help="Not DICOM: the true volumes on the network's grid, one .npz each."),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="How many patients at a time.")] = os.cpu_count() or 1,
    scanner_adc: Annotated[bool, typer.Option("--scanner-adc", help="Add the scanner's own ADC map.")] = False,
    b_values: Annotated[str, typer.Option(help="Of the diffusion series in s/mm², from 0 upwards.")] = "0,1000",
    directions: Annotated[int, typer.Option(help="Single diffusion directions: 3, or 0 for their trace.")] = 0,
    conditions: Annotated[
        str | None,
        typer.Option(help="What patients have, as metastases=0.5,none=0.5 (a wrong name gets the list); else a mix."),
    ] = None,
    artefact: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong, and how badly from 0 to 1: ghosting, wrap-around, spikes, noise, bias or cropping, "
            "as in ghosting=0.5, or t1:ghosting=0.5 for one series. Repeat it for more."
        ),
    ] = None,
) -> None:
    """Write DICOM studies as a scanner would: T1, FLAIR, DWI, low-dose and full-dose T1ce of a brain MRI.

    Beside the series lies the truth about enhancing lesions, as lesion.nii.gz and as a DICOM Segmentation. What is
    there already is kept: an interrupted call can be repeated, but only with the same settings.
    """
    from simulator.acquisition import ScanEffects  # loads much; no other command should wait for it
    from simulator.artefacts import parse_artefacts
    from simulator.cohort import CohortPlan
    from simulator.heads import AnatomyError
    from simulator.lesions import parse_proportions
    from simulator.nifti import NiftiError
    from simulator.subject import SubjectSettings

    try:
        if from_nifti is not None:
            _wrap(from_nifti, out, seed)
        else:
            try:
                scanner = Scanner(
                    vendor=vendor,
                    layout=layout,
                    field_tesla=field,
                    scanner_adc=scanner_adc,
                    b_values=_whole_numbers(b_values),
                    directions=directions,
                )
                settings = SubjectSettings(lesions=parse_proportions(conditions)) if conditions else SubjectSettings()
                effects = ScanEffects(artefacts=parse_artefacts(artefact or ()))
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error
            if network_grid and scanner != Scanner():
                raise typer.BadParameter("--network-grid draws a scanner a subject: leave out what describes one")
            plan = CohortPlan(out, anatomy, None if network_grid else scanner, settings, effects)
            _simulate(plan, range(seed, seed + subjects), jobs)
    except (AnatomyError, NiftiError, ValueError) as error:
        raise CommandError(str(error)) from error


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"b-values are written 0,500,1000; got {text!r}") from None


def _wrap(folder: Path, out: Path, seed: int) -> None:
    from simulator.nifti import wrap_nifti

    t1, flair, t1ce = (folder / name for name in ("t1.nii.gz", "flair.nii.gz", "t1ce.nii.gz"))
    study = wrap_nifti(t1, flair, t1ce, out, seed=seed)
    typer.echo(f"{len(study.files)} instances are in {study.folder}")


def _simulate(plan: CohortPlan, seeds: range, jobs: int) -> None:
    from simulator.cohort import simulate_cohort

    with Progress() as bar:
        for place in bar.track(simulate_cohort(plan, seeds, jobs), len(seeds), description="simulating"):
            bar.console.print(place)
    typer.echo(f"{len(seeds)} subjects are in {plan.out}")
