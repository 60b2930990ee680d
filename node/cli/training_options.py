"""Options of the commands that train, and the settings that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preprocessing.role import CHANNELS, Role

if TYPE_CHECKING:
    from model.training_settings import TrainingSettings

FOUR = list(CHANNELS)
INPUT_ROLES = "|".join(CHANNELS)


def input_role(text: str) -> Role:
    """The value of a ``--role`` that names an input of the network."""
    if text not in CHANNELS:
        raise typer.BadParameter(f"{text!r} is no input: {', '.join(CHANNELS)} are")
    return Role(text)


CohortFolder = Annotated[Path, typer.Argument(help="A cohort's folder.", exists=True, file_okay=False)]
Out = Annotated[Path, typer.Option("--out", help="The folder for what is made.")]
Runs = Annotated[
    Path | None, typer.Option("--runs", help="Where trained folds are kept and shared; default: runs/ in --out.")
]
Roles = Annotated[
    list[Role],
    typer.Option(
        "--role", help="An input; repeat it. Default: the paper's four.", parser=input_role, metavar=INPUT_ROLES
    ),
]
Channels = Annotated[int, typer.Option("--channels", "-C", min=1, help="C, the channels of the first feature map.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training subjects.")]
Precision = Annotated[str, typer.Option(help="bf16, fp16 (with a scaled loss) or fp32.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides folds, first weights, order and flips.")]
Folds = Annotated[int, typer.Option(min=2, help="How many.")]
Also = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE",
        help="Another setting of model/training_settings.py: batch, crop, lesion_share, learning_rate, cosine_decay, "
        "gradient_limit, head, loss, shared_scale, checkpoint_seconds. Repeat it.",
    ),
]


def training_settings(
    roles: list[Role], channels: int, epochs: int, precision: str, seed: int, also: list[str] | None
) -> TrainingSettings:
    """What the options say. Raises typer.BadParameter, in words, for what cannot be."""
    from model.training_settings import settings_from

    if precision not in ("bf16", "fp16", "fp32"):
        raise typer.BadParameter(f"--precision is bf16, fp16 or fp32, not {precision}")
    given = {
        "roles": [role for role in CHANNELS if role in roles], "channels": channels, "epochs": epochs, "seed": seed,
        "half_precision": precision != "fp32", "fp16": precision == "fp16",
    }  # fmt: skip
    for text in also or []:
        name, is_sign, value = text.partition("=")
        if not is_sign:
            raise typer.BadParameter(f"--set takes NAME=VALUE, not {text!r}")
        given[name.strip()] = None if value.strip() == "none" else value.strip()
    try:
        return settings_from(given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
