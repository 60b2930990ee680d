"""`quarterdose train`, `validate`, `ablate` and `scale`: the paper's tables and figures, one command each.

Each may be started by ``torchrun``: every process runs the same command, the first one speaks and writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from node.cli.cohorts import reported
from node.cli.training_options import (
    FOUR,
    Also,
    Channels,
    CohortFolder,
    Epochs,
    Folds,
    Out,
    Precision,
    Roles,
    Runs,
    Seed,
    training_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.cohort import Cohort
    from model.crossvalidate import CrossValidation, Happening, Plan
    from model.processes import Process
    from model.tables import Table
    from model.train import TrainingProgress

def add_to(app: typer.Typer) -> None:
    for command in (train, validate, ablate, scale):
        app.command()(command)


def train(
    cohort: CohortFolder,
    out: Out,
    role: Roles = FOUR,
    channels: Channels = 16,
    epochs: Epochs = 300,
    precision: Precision = "bf16",
    seed: Seed = 0,
    also: Also = None,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="An anatomy that judges instead of training; repeat it.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write scalars to OUT/watch/tensorboard.")] = False,
) -> None:
    """Train one network and write it as a model folder. Killed, the same call goes on to the same numbers.

    OUT/run holds the checkpoint, OUT/watch a preview after 1, 2, 4, 8 … epochs, OUT/model the weights and their card.
    """
    with reported():
        from model.finish import write_model
        from model.folds import Fold
        from model.processes import joined, started
        from model.train import TrainingError
        from model.train import train as train_network
        from model.training_settings import Architecture
        from model.watch import Watch

        process = started()
        settings = training_settings(role, channels, epochs, precision, seed, also)
        if settings.architecture is not Architecture.BONE:  # before hours of training, not after
            rival = settings.architecture
            raise ValueError(f"the node does not run {rival}'s network: compare it by `validate --method {rival}`")
        fold = Fold(1, *_verified(cohort).split(hold_out or []))
        if not fold.train.subjects:
            raise TrainingError("every subject is held out: none is left to train on")
        if not process.leads:
            with joined(process):
                train_network(fold.train, settings, out / "run", process=process)
            return
        with _alone_in(out / "run"), _bar() as bar:
            watch = Watch(fold.train, settings, out / "watch", tensorboard=tensorboard)
            task = bar.add_task("training", total=None, doing="")

            def told(progress: TrainingProgress) -> None:
                doing = f"step {progress.step} of {progress.steps}, loss {progress.loss:.2e}"
                bar.update(task, total=progress.steps, completed=progress.step, doing=doing)
                watch(progress)

            with joined(process):
                train_network(fold.train, settings, out / "run", told, process)
            bar.update(task, doing="judging")
            card = write_model(out / "model", out / "run", fold, settings)
    typer.echo(card.markdown())
    typer.echo(f"the model is in {out / 'model'}")


def validate(
    cohort: CohortFolder,
    out: Out,
    method: Annotated[
        list[str],
        typer.Option(help="paper, nothing, linear, linear4, gong, kleesiek, residual, difference, huber, enhancement, "
                     "ssim, shared-scale, ensemble; or rivals, variants. Repeat it."),
    ] = ["paper", "nothing", "linear", "linear4"],  # noqa: B006  # typer reads it once
    folds: Folds = 5,
    runs: Runs = None,
    role: Roles = FOUR,
    channels: Channels = 16,
    epochs: Epochs = 300,
    precision: Precision = "bf16",
    seed: Seed = 0,
    also: Also = None,
    write_models: Annotated[
        Path | None,
        typer.Option(help="Also write the folds of `paper` as model folders: a node given this folder asks them all."),
    ] = None,
) -> None:
    """Cross-validate methods on the same folds: the paper's figures, what a radiologist asks, and Figure 3.

    OUT/validate.md, .csv and .tex hold the tables, OUT/subjects.csv every number, OUT/figure3-*.png the pictures.
    """
    with reported():
        from dataclasses import replace

        from model import report
        from model.contenders import contenders
        from model.crossvalidate import cross_validate
        from model.finish import write_folds
        from model.folds import groups_of
        from model.paired import paired_table
        from model.pictures import figure_3, telling
        from model.processes import started
        from model.tables import write_tables

        process = started()
        settings = training_settings(role, channels, epochs, precision, seed, also)
        plan = _plan(cohort, runs or out / "runs", folds, seed)
        drawn = telling(plan.cohort)
        plan = replace(plan, drawn=frozenset(drawn))
        try:
            asked = contenders(method, settings)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        also_trained = contenders(["paper"], settings) if write_models is not None else []
        with _following(process) as told:
            results = cross_validate([(plan, one) for one in (*asked, *also_trained)], told)
        if not process.leads:
            return
        if write_models is not None:
            write_folds(write_models, plan, settings, results[-1].runs)
        results = results[: len(asked)]
        for result in results:
            Console().print(f"{result.contender.name}: {', '.join(str(run) for run in result.runs)}",
                            highlight=False, soft_wrap=True, style="dim")  # fmt: skip
        tables = [
            report.scores_table(results), paired_table(results, groups_of(plan.cohort.subjects)),
            report.detection_table(results), report.appearance_table(results), report.calibration_table(results),
        ]  # fmt: skip
        write_tables(out, "validate", tables)
        report.subjects_table(results).write_csv(out / "subjects.csv")
        for number, result in enumerate(results, start=1):
            figure_3(out / f"figure3-{number}.png", plan, result.runs, drawn)
    _show(tables, out / "validate.md")


def ablate(
    cohort: CohortFolder,
    out: Out,
    all_subsets: Annotated[
        bool, typer.Option("--all-subsets", help="Every subset of the inputs instead of backward elimination.")
    ] = False,
    paper_rows: Annotated[
        bool, typer.Option("--paper-rows", help="The paper's ten rows, whatever an elimination here would remove.")
    ] = False,
    folds: Folds = 5,
    runs: Runs = None,
    role: Roles = FOUR,
    channels: Channels = 16,
    epochs: Epochs = 300,
    precision: Precision = "bf16",
    seed: Seed = 0,
    also: Also = None,
) -> None:
    """Which inputs matter: the paper's Table 1 by backward elimination, its own figures beside ours."""
    with reported():
        from model import ablate as studies
        from model.folds import groups_of
        from model.paired import paired_table
        from model.processes import started
        from model.tables import write_tables

        process = started()
        settings = training_settings(role, channels, epochs, precision, seed, also)
        plan = _plan(cohort, runs or out / "runs", folds, seed)
        if paper_rows and set(settings.roles) != set(FOUR):
            raise ValueError(f"the paper's rows are subsets of all four inputs, not of {', '.join(settings.roles)}")
        study = studies.backward_elimination
        if all_subsets or paper_rows:
            study = studies.every_subset if all_subsets else studies.paper_rows
        with _following(process) as told:
            results: Sequence[CrossValidation] = study(plan, settings, told)
        if not process.leads:
            return
        tables = [studies.table_1(results), paired_table(results, groups_of(plan.cohort.subjects))]
        write_tables(out, "table1", tables)
    _show(tables, out / "table1.md")


def scale(
    cohort: CohortFolder,
    out: Out,
    width: Annotated[list[int], typer.Option(min=1, help="C; repeat it.")] = [8, 16, 32],  # noqa: B006
    fraction: Annotated[
        list[float], typer.Option(help="F, the share of training subjects; repeat it.")
    ] = [0.25, 0.5, 0.75, 1.0],  # noqa: B006
    folds: Folds = 5,
    runs: Runs = None,
    role: Roles = FOUR,
    epochs: Epochs = 300,
    precision: Precision = "bf16",
    seed: Seed = 0,
    also: Also = None,
) -> None:
    """How performance grows with width and data: the paper's Figure 4, and what twice the data would bring."""
    with reported():
        from model.folds import groups_of
        from model.paired import paired_table
        from model.processes import started
        from model.scale import draw_figure_4, figure_4_table
        from model.scale import scale as measure
        from model.tables import write_tables

        process = started()
        settings = training_settings(role, width[0], epochs, precision, seed, also)
        plan = _plan(cohort, runs or out / "runs", folds, seed)
        with _following(process) as told:
            points = measure(plan, settings, width, fraction, told)
        if not process.leads:
            return
        tables = [figure_4_table(points), paired_table([one.result for one in points], groups_of(plan.cohort.subjects))]
        write_tables(out, "figure4", tables)
        draw_figure_4(out / "figure4.png", points)
    _show(tables, out / "figure4.md")


@contextmanager
def _alone_in(run: Path) -> Iterator[None]:
    """Nobody else trains in ``run`` meanwhile: two would write the same checkpoint. Raises TrainingError if somebody
    does."""
    from model.claim import claimed
    from model.train import TrainingError

    run.mkdir(parents=True, exist_ok=True)
    with claimed(run, wait=False) as ours:
        if not ours:
            raise TrainingError(f"another process is training in {run}: wait until it is done, or give another --out")
        yield


def _plan(cohort: Path, runs: Path, folds: int, seed: int) -> Plan:
    from model.crossvalidate import Plan

    return Plan(_verified(cohort), runs, folds, seed)


def _verified(folder: Path) -> Cohort:
    """The cohort, each array the one that its digest was made from: what is computed can then be traced to it. Raises
    CohortError for another one, or an empty one."""
    from model.cohort import Cohort, CohortError

    cohort = Cohort.open(folder)
    if not cohort.subjects:
        raise CohortError(f"{folder} has no subject: `quarterdose cohort add` brings some")
    cohort.verify()
    return cohort


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[doing]}"), TimeRemainingColumn())
    return Progress(*columns)


@contextmanager
def _following(process: Process) -> Iterator[Any]:
    """One bar for the fold at hand; a line for each that is done. The first of several processes speaks for all."""
    if not process.leads:
        yield lambda happening: None
        return
    with _bar() as bar:
        task = bar.add_task("", total=1.0, doing="")

        def told(one: Happening) -> None:
            where = f"{one.contender}, fold {one.fold} of {one.folds}"
            bar.update(task, description=where, completed=one.share, doing=one.what)
            if one.share == 1.0 and one.what == "done":
                bar.console.print(f"{where}: done", highlight=False)

        yield told


def _show(tables: Sequence[Table], written: Path) -> None:
    for table in tables:
        typer.echo(table.markdown())
    typer.echo(f"written: {written}, with .csv and .tex beside it")
