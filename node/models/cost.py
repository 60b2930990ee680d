"""What it costs a study that a series is missing: the card of the model it gets beside that of the one it would get."""

from __future__ import annotations

from model.card import ModelCard
from model.evaluate import Result


def cost(used: ModelCard, fuller: ModelCard) -> str:
    """The figures of ``used`` beside those of ``fuller``, which is for complete studies. Which is better is left to
    them: fewer series do not always mean a worse answer."""
    if used.weights_sha256 == fuller.weights_sha256:
        return f"{used.name} takes no more of a complete study either"
    if not _judged_alike(used.results, fuller.results):
        return f"what that costs is not known: {used.name} and {fuller.name} were not judged on the same subjects"
    ours, theirs = used.results[0], fuller.results[0]
    figures = [f"PSNR in the brain {ours.brain.psnr.mean:.2f} instead of {theirs.brain.psnr.mean:.2f} dB"]
    if ours.brain.t_l2.mean is not None and theirs.brain.t_l2.mean is not None:
        figures.append(f"t-L2 {1e4 * ours.brain.t_l2.mean:.1f} instead of {1e4 * theirs.brain.t_l2.mean:.1f} (1e-4)")
    return f"on the {ours.subjects} subjects that judged it and {fuller.name}, {' and '.join(figures)}"


def _judged_alike(some: tuple[Result, ...], others: tuple[Result, ...]) -> bool:
    """Whether the methods without learning that both cards have did the same: then the subjects are the same."""
    rivals = {result.method: result for result in others[1:]}
    common = [(result, rivals[result.method]) for result in some[1:] if result.method in rivals]
    return bool(common) and all(one == other for one, other in common)
