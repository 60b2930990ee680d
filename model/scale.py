"""How performance grows with data and width (paper, section 3, "Estimation of the asymptotic performance"; Figure 4).

The paper submits by eye what twice the data would bring. Here each width's mean over the test subjects is fitted with
the law of learning curves, y(F) = a + b·F^(−c) with 0.05 ≤ c ≤ 2 and b of the sign that more data helps (Hestness et
al. 2017), and read at F = 2. Its uncertainty is the 2.5 and 97.5 % quantile over 500 bootstrap samples of the test
subjects; the training subjects are not drawn again, so what their choice adds is missing from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model.contenders import Trained
from model.crossvalidate import CrossValidation, Happening, Plan, cross_validate
from model.evaluate import Figures
from model.paper import AT_DOUBLE
from model.report import FIGURES, figures
from model.tables import Table
from model.training_settings import TrainingSettings

Array = NDArray[np.float64]
MEASURES = (("l2", 1e5, 1), ("t_l2", 1e4, 1), ("psnr", 1.0, -1), ("ssim", 100.0, -1))
"""Name, factor to the units of Table 1, and +1 where less is better."""
DOUBLED = 2.0
"""The F that is forecast: twice the subjects there are."""
SAMPLES = 500
EXPONENTS = np.linspace(0.05, 2.0, 40)


@dataclass(frozen=True)
class Point:
    """One network of Figure 4: its width, the share of subjects it learned from, and how it did."""

    channels: int
    fraction: float
    result: CrossValidation


@dataclass(frozen=True)
class Forecast:
    """At F = 2, in the units of Table 1: the fit through the means, and the interval over bootstrap samples."""

    value: float
    low: float
    high: float


def scale(
    plan: Plan,
    settings: TrainingSettings,
    widths: Sequence[int],
    fractions: Sequence[float],
    told: Callable[[Happening], None],
) -> tuple[Point, ...]:
    """Every width at every fraction, each smaller part within the larger, the test sets always the same."""
    sizes = list(product(widths, fractions))
    studies = [
        (
            replace(plan, fraction=fraction),
            Trained(f"C = {channels}, F = {fraction:.0%}", replace(settings, channels=channels)),
        )
        for channels, fraction in sizes
    ]
    results = cross_validate(studies, told)
    return tuple(Point(*size, result) for size, result in zip(sizes, results, strict=True))


def figure_4_table(points: Sequence[Point]) -> Table:
    """The points of Figure 4, and the forecast of each width at twice the data beside the paper's."""
    rows = [
        (str(one.channels), f"{one.fraction:.0%}", *figures(Figures.of([j.grid for j in one.result.judgements])))
        for one in points
    ]
    for channels in dict.fromkeys(one.channels for one in points):
        told = [forecast([one for one in points if one.channels == channels], name) for name, _, _ in MEASURES]
        rows.append((str(channels), "200%, extrapolated", *(_interval(one) for one in told)))
    rows.append(("paper, 16", "200%, by eye", *(AT_DOUBLE.get(name, "–") for name in FIGURES)))
    return Table("Figure 4: width and number of subjects", ("C", "F", *FIGURES), tuple(rows), (
        "Mean (sd) over subjects, whole grid. The forecast is a power law through the means, in brackets the 95 % "
        "interval over bootstrap samples of the test subjects (model/scale.py).",
    ))  # fmt: skip


def forecast(points: Sequence[Point], measure: str) -> Forecast | None:
    """What ``measure`` would be at F = 2; None for fewer than three fractions, which no such law fits."""
    _, factor, sign = next(one for one in MEASURES if one[0] == measure)
    values = np.array([[getattr(j.grid, measure) for j in one.result.judgements] for one in points]) * factor
    values = values[:, np.isfinite(values).all(axis=0)]
    fractions = np.array([one.fraction for one in points])
    if len(set(fractions)) < 3 or values.shape[1] == 0:
        return None
    random = np.random.default_rng(0)
    draws = random.integers(0, values.shape[1], (SAMPLES, values.shape[1]))
    forecasts = [power_law(fractions, values[:, draw].mean(axis=1), sign, DOUBLED) for draw in draws]
    low, high = np.quantile(forecasts, [0.025, 0.975])
    return Forecast(power_law(fractions, values.mean(axis=1), sign, DOUBLED), float(low), float(high))


def power_law(fractions: Array, means: Array, sign: int, at: float) -> float:
    """a + b·at^(−c) by least squares, sign·b ≥ 0: linear in a and b for each c of a fine grid, the best c taken."""
    best, answer = math.inf, float(means.mean())
    for exponent in EXPONENTS:
        x = fractions**-exponent
        spread = ((x - x.mean()) ** 2).sum()
        slope = ((x - x.mean()) * (means - means.mean())).sum() / spread
        slope = slope if sign * slope > 0 else 0.0
        level = means.mean() - slope * x.mean()
        error = float(((level + slope * x - means) ** 2).sum())
        if error < best - 1e-12:
            best, answer = error, float(level + slope * at**-exponent)
    return answer


def draw_figure_4(path: Path, points: Sequence[Point]) -> None:
    """The four mean figures against F, one line for each width, as the paper's Figure 4; the forecast as a bar."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, factor, _), title in zip(figure.subplots(1, 4), MEASURES, FIGURES, strict=True):
        for place, channels in enumerate(dict.fromkeys(one.channels for one in points)):
            line = sorted((one for one in points if one.channels == channels), key=lambda one: one.fraction)
            means = [np.nanmean([getattr(j.grid, name) for j in one.result.judgements]) * factor for one in line]
            axis.plot([100 * one.fraction for one in line], means, "o-", color=f"C{place}", label=f"C = {channels}")
            told = forecast(line, name)
            if told is not None:
                bars = [[told.value - told.low], [told.high - told.value]]
                axis.errorbar([200 + 3 * place], [told.value], np.maximum(bars, 0), fmt="s", color=f"C{place}", mfc="w")
        axis.set(title=title, xlabel="F (%)")
        axis.grid(alpha=0.3)
        if name == "l2":
            axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _interval(told: Forecast | None) -> str:
    return "–" if told is None else f"{told.value:.1f} [{told.low:.1f}, {told.high:.1f}]"
