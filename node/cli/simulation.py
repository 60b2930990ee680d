"""`quarterdose simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from node.errors import CommandError
from simulator.scanner import Layout, Scanner, Vendor


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
    scanner_adc: Annotated[bool, typer.Option("--scanner-adc", help="Add the scanner's own ADC map.")] = False,
) -> None:
    """Write DICOM studies as a scanner would: T1, FLAIR, DWI, low-dose and full-dose T1ce of a brain MRI.

    Beside the series lie the truth about enhancing lesions, as lesion.nii.gz and as a DICOM Segmentation.
    """
    from simulator.heads import AnatomyError  # loads much; no other command should wait for it
    from simulator.nifti import NiftiError

    try:
        if from_nifti is not None:
            _wrap(from_nifti, out, seed)
        else:
            scanner = Scanner(vendor=vendor, layout=layout, field_tesla=field, scanner_adc=scanner_adc)
            _simulate(out, range(seed, seed + subjects), anatomy, scanner)
    except (AnatomyError, NiftiError, ValueError) as error:
        raise CommandError(str(error)) from error


def _wrap(folder: Path, out: Path, seed: int) -> None:
    from simulator.nifti import wrap_nifti

    t1, flair, t1ce = (folder / name for name in ("t1.nii.gz", "flair.nii.gz", "t1ce.nii.gz"))
    study = wrap_nifti(t1, flair, t1ce, out, seed=seed)
    typer.echo(f"{len(study.files)} instances are in {study.folder}")


def _simulate(out: Path, seeds: range, anatomy: Path | None, scanner: Scanner) -> None:
    from simulator.study import simulate_subject, write_study

    with Progress() as bar:
        task = bar.add_task("simulating", total=len(seeds))
        for seed in seeds:
            study = write_study(simulate_subject(seed, anatomy), out, scanner)
            bar.update(task, advance=1, description=study.folder.name)
    typer.echo(f"{len(seeds)} studies are in {out}")
