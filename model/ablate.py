"""Which inputs matter: the paper's backward elimination (section 3, Table 1), or every subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

from model.contenders import Trained
from model.crossvalidate import CrossValidation, Happening, Plan, cross_validate
from model.evaluate import Figures
from model.network import Head
from model.paper import TABLE_1
from model.report import FIGURES, figures
from model.tables import Table
from model.training_settings import TrainingSettings
from preprocessing.volume import Role

ORDER = (Role.LOW_DOSE, Role.T1, Role.ADC, Role.FLAIR)
"""The columns of Table 1."""


def backward_elimination(
    plan: Plan, settings: TrainingSettings, told: Callable[[Happening], None]
) -> tuple[CrossValidation, ...]:
    """From all of ``settings.roles`` down to one, at each step without each one in turn, then going on without the one
    whose loss raises the mean L2 least. Ten configurations from four inputs, in the order of Table 1. Raises ValueError
    for settings that need a certain input."""
    kept = settings.roles
    for role in kept:
        _with_inputs(settings, (role,))  # settings that cannot do with one input are refused before hours of training
    results = [*_validated(plan, settings, [kept], told)]
    while len(kept) > 1:
        without = [tuple(one for one in kept if one is not role) for role in _ordered(kept)]
        tried = _validated(plan, settings, without, told)
        results += tried
        kept = min(zip(without, tried, strict=True), key=lambda pair: _l2(pair[1]))[0]
    return tuple(results)


def paper_rows(
    plan: Plan, settings: TrainingSettings, told: Callable[[Happening], None]
) -> tuple[CrossValidation, ...]:
    """The ten configurations of the paper's Table 1, whatever an elimination here would have removed."""
    rows = [tuple(role for role in settings.roles if role in roles) for roles in TABLE_1]
    return _validated(plan, settings, rows, told)


def every_subset(
    plan: Plan, settings: TrainingSettings, told: Callable[[Happening], None]
) -> tuple[CrossValidation, ...]:
    """All non-empty subsets of ``settings.roles``, largest first: fifteen from four."""
    sizes = range(len(settings.roles), 0, -1)
    subsets = [roles for size in sizes for roles in combinations(settings.roles, size)]
    return _validated(plan, settings, subsets, told)


def table_1(results: Sequence[CrossValidation]) -> Table:
    """The paper's Table 1 made here, its own figures beside it."""
    rows = []
    for result in results:
        roles = frozenset(result.contender.roles)
        ours = figures(Figures.of([one.grid for one in result.judgements]))
        paper = TABLE_1.get(roles, ("–",) * len(FIGURES))
        ticks = ("✓" if role in roles else "✗" for role in ORDER)
        rows.append((*ticks, *(cell for pair in zip(ours, paper, strict=True) for cell in pair)))
    heads = tuple(head for name in FIGURES for head in (name, "paper"))
    return Table("Table 1: key inputs", ("low-dose T1ce", "T1", "ADC", "T2-FLAIR", *heads), tuple(rows), (
        "Mean (sd) over subjects, whole grid; the paper's on 105 patients, C = 16, 300 epochs, 160 × 192 × 160.",
    ))  # fmt: skip


def _validated(
    plan: Plan, settings: TrainingSettings, subsets: Sequence[tuple[Role, ...]], told: Callable[[Happening], None]
) -> tuple[CrossValidation, ...]:
    return cross_validate([(plan, _with_inputs(settings, roles)) for roles in subsets], told)


def _with_inputs(settings: TrainingSettings, roles: tuple[Role, ...]) -> Trained:
    changed = replace(settings, roles=roles, head=_head(settings.head, set(roles)))
    return Trained(" + ".join(_ordered(roles)), changed)


def _head(asked: Head, roles: set[Role]) -> Head:
    """The head that was asked for, or the nearest that these inputs allow."""
    pair = {Role.LOW_DOSE, Role.T1}
    if asked is Head.DIFFERENCE and not pair <= roles:
        asked = Head.RESIDUAL
    return Head.PAPER if asked is Head.RESIDUAL and not pair & roles else asked


def _ordered(roles: Sequence[Role]) -> list[Role]:
    return sorted(roles, key=ORDER.index)


def _l2(result: CrossValidation) -> float:
    mean = Figures.of([one.grid for one in result.judgements]).l2.mean
    assert mean is not None  # noqa: S101  # for the type checker: every subject has an L2
    return mean
