"""Make the weights that ship in this repository, from nothing but anatomy: simulate, train, judge, write.

    python -m benchmarks.shipped_weights --anatomy DIR --out DIR --name c8_four_roles
    python -m benchmarks.shipped_weights --anatomy DIR --out DIR --name c8_t1_low_dose --roles t1 low_dose

Each step goes on where an earlier call stopped: subjects that are there are kept, training resumes from its checkpoint.
``--as-it-is`` judges and writes the last checkpoint without training further.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.training_cohort import simulate_cohort
from model.card import ModelCard
from model.cohort import Cohort, Mask
from model.evaluate import Result, evaluate
from model.finish import described
from model.network import Head, SynthesisNetwork
from model.rivals import extrapolated, fit_extrapolation, unchanged
from model.store import SHIPPED, Model, write_weights
from model.synthesise import synthesise
from model.train import CHECKPOINT, TrainingProgress, computed_in, new_network, read_checkpoint, train
from model.training_settings import TrainingSettings
from preprocessing.volume import Role

FloatArray = NDArray[np.float32]

HELD_OUT = ["head_13", "head_14", "head_15", "head_16"]
LIMITS = (
    "Trained and judged on simulated contrast only: no patient's image was seen. The figures say how well the "
    "simulator's physics was learned, not how well a patient is served.",
    "Not a medical device; for research and for showing the node. A lesion that the low dose does not show cannot be "
    "seen in the virtual image, and noise in the low dose can look like faint enhancement.",
    "Inputs must be prepared as `preprocessing/` does: MNI152 grid, brain-masked, normalised by brain statistics.",
)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def show(progress: TrainingProgress) -> None:
    if progress.step % 25 == 0 or progress.step == progress.steps:
        say(f"step {progress.step}/{progress.steps}, loss {progress.loss:.2e}, {progress.seconds:.0f} s")


def judge(model: Model, train_set: Cohort, test_set: Cohort) -> tuple[Result, ...]:
    """The model and the answers that need no learning, on the heads that were held out."""

    def network(inputs: FloatArray, brain: Mask) -> FloatArray:
        return synthesise(model, inputs, brain).virtual

    def nothing(inputs: FloatArray, brain: Mask) -> FloatArray:
        return unchanged(inputs, test_set.roles)

    def linear(inputs: FloatArray, brain: Mask, k: float) -> FloatArray:
        return extrapolated(inputs, test_set.roles, k)

    k = fit_extrapolation(train_set)
    return tuple(
        evaluate(name, method, test_set, lambda done, count, name=name: say(f"judging {name}: {done} of {count}"))
        for name, method in (
            ("this network", network),
            ("low dose as it is", nothing),
            (f"T1 + {k:.2f}·(low dose − T1), fitted", partial(linear, k=k)),
            ("T1 + 4·(low dose − T1)", partial(linear, k=4.0)),
        )
    )


def trained_so_far(run: Path, settings: TrainingSettings) -> tuple[SynthesisNetwork, int]:
    """The network of the run's last checkpoint and how many steps it had made."""
    checkpoint = read_checkpoint(run / CHECKPOINT)
    network = new_network(settings)
    network.load_state_dict(checkpoint["network"])
    return network, checkpoint["step"]


def command(arguments: argparse.Namespace) -> str:
    """The call that makes these weights again, wherever the folders are."""
    return (
        "python -m benchmarks.shipped_weights --anatomy DIR --out DIR"
        f" --name {arguments.name} --roles {' '.join(arguments.roles)} --head {arguments.head}"
        f" --subjects {arguments.subjects} --held-out {' '.join(arguments.held_out)}"
        f" --epochs {arguments.epochs} --crop {arguments.crop} --batch {arguments.batch}"
    )


def first_commit(out: Path) -> str:
    """The commit at which the cohort in ``out`` was begun: a later simulator makes other subjects of the same seeds."""
    note = out / "commit"
    if not note.exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        out.mkdir(parents=True, exist_ok=True)
        note.write_text(head)
    return note.read_text().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", type=Path, help="label maps of heads; without it the packaged anatomy")
    parser.add_argument("--out", type=Path, required=True, help="for the cohort and the run: not in the repository")
    parser.add_argument("--name", required=True, help="the model's folder in --models")
    parser.add_argument("--models", type=Path, default=SHIPPED)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, help="heads that judge instead of training")
    parser.add_argument("--roles", nargs="+", type=Role, default=list(TrainingSettings.roles))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--head", type=Head, default=Head.RESIDUAL)
    parser.add_argument("--as-it-is", action="store_true", help="write the last checkpoint, train no further")
    arguments = parser.parse_args()

    simulated_at = first_commit(arguments.out)
    cohort = simulate_cohort(arguments.out / "cohort", arguments.anatomy, arguments.subjects, say)
    cohort = cohort.with_roles(arguments.roles)
    train_set, test_set = cohort.split(set(arguments.held_out) & set(cohort.anatomies))
    say(f"{len(train_set.subjects)} subjects train, {len(test_set.subjects)} of {', '.join(test_set.anatomies)} judge")
    settings = TrainingSettings(
        roles=tuple(arguments.roles), channels=8, head=arguments.head, epochs=arguments.epochs, batch=arguments.batch,
        crop=arguments.crop, lesion_share=1 / 3, cosine_decay=True, gradient_limit=1e-3,
    )
    run = arguments.out / arguments.name
    if not arguments.as_it_is:
        train(train_set, settings, run, show)
    network, steps = trained_so_far(run, settings)

    folder = arguments.models / arguments.name
    digest = write_weights(folder, network, settings.roles)
    made = f"{steps} steps on {len(train_set.subjects)} simulated subjects of {len(train_set.anatomies)} heads"
    card = ModelCard(
        name=arguments.name,
        summary=f"The paper's network at C = 8 for {', '.join(settings.roles)}, trained on simulated studies only.",
        weights_sha256=digest,
        cohort_digest=cohort.digest,
        commit=simulated_at,
        command=command(arguments),
        training=(made, *described(settings), f"computed in: {', '.join(computed_in(run))}"),
        results=(),
        limits=LIMITS,
    )
    card.write(folder)
    results = judge(Model.load(folder), train_set, test_set)
    finished = replace(card, results=results)
    finished.write(folder)
    say(f"wrote {folder}")
    print(finished.markdown())


if __name__ == "__main__":
    main()
