"""The model card: where weights came from, how good they were on heads they never saw, and what they are not for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model.evaluate import Result

CARD = "card.json"
README = "README.md"


class CardError(Exception):
    """A card that cannot be read; the message says what to do."""


@dataclass(frozen=True)
class ModelCard:
    """What a model folder says about its weights. ``weights_sha256`` ties the card to the one file it describes."""

    name: str
    summary: str
    weights_sha256: str
    cohort_digest: str
    commit: str
    """At which the cohort was simulated and training began."""
    command: str
    training: tuple[str, ...]
    """The settings and how far they were carried, one plain sentence each."""
    results: tuple[Result, ...]
    """On heads that training never saw; the first is the model's own, the others its rivals';
    empty while it is being judged."""
    limits: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """The card of a model folder. Raises CardError if it is missing or not a card."""
        path = folder / CARD
        try:
            content = json.loads(path.read_text())
            results = tuple(Result.from_json(result) for result in content.pop("results"))
            training, limits = tuple(content.pop("training")), tuple(content.pop("limits"))
            return cls(**content, results=results, training=training, limits=limits)
        except FileNotFoundError:
            raise CardError(f"{path} is missing: copy the whole model folder, card included") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CardError(f"{path} is not a model card ({error}); copy the model folder again") from error

    def write(self, folder: Path) -> None:
        """Write card.json for programs and README.md for people."""
        (folder / CARD).write_text(json.dumps(asdict(self), indent=1) + "\n")
        (folder / README).write_text(self.markdown())

    def markdown(self) -> str:
        """The card as a page."""
        rows = [
            f"| {result.method} | {domain} | {figures.l2.written(1e5, 1)} | {figures.t_l2.written(1e4, 1)} "
            f"| {figures.psnr.written()} | {figures.ssim.written(100)} |"
            for result in self.results
            for domain, figures in (("whole grid", result.grid), ("brain", result.brain))
        ]
        judged = self.results[0].subjects if self.results else 0
        return "\n".join([
            f"# {self.name}", "", self.summary, "",
            f"## On {judged} subjects of heads never seen in training", "",
            "Mean (standard deviation) over subjects; definitions in `model/metrics.py`.", "",
            "| method | over | L2 (10⁻⁵) | t-L2 (10⁻⁴) | PSNR (dB) | SSIM (%) |", "|---|---|---|---|---|---|", *rows,
            "", "## Training", "", *(f"- {line}" for line in self.training), f"- Command: `{self.command}`",
            f"- Commit: `{self.commit}`", f"- Cohort: `{self.cohort_digest}`", f"- Weights: `{self.weights_sha256}`",
            "", "## Limits", "", *(f"- {line}" for line in self.limits), "",
        ])
