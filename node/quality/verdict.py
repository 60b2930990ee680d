"""The verdict on a study: accept, accept with warnings, or reject with reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from node.quality.rules import ALL_MEASURES, Limits, QualityRules
from preprocessing.quality.measure import Measure


class Verdict(StrEnum):
    """What becomes of a study."""

    ACCEPT = "accept"
    WARN = "accept with warnings"
    REJECT = "reject"


@dataclass(frozen=True)
class Finding:
    """One measure against its limits; ``because`` is a sentence, empty when nothing is wrong."""

    measure: Measure
    verdict: Verdict
    because: str = ""

    @property
    def label(self) -> str:
        """What is measured, and of which series."""
        of = f" of {self.measure.role}" if self.measure.role is not None else ""
        return f"{ALL_MEASURES[self.measure.name].label}{of}"

    @property
    def text(self) -> str:
        """The value with its unit, or that and why it is not known."""
        if not self.measure.known:
            return f"not known: {self.measure.note}" if self.measure.note else "not known"
        return _amount(self.measure.name, self.measure.value)


@dataclass(frozen=True)
class Assessment:
    """Every finding, in the order of measuring."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings'."""
        found = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in (Verdict.REJECT, Verdict.WARN) if verdict in found), Verdict.ACCEPT)

    def sentences(self, verdict: Verdict) -> list[str]:
        """Why: what the findings of this verdict say."""
        return [finding.because for finding in self.findings if finding.verdict is verdict and finding.because]


def assess(measures: Iterable[Measure], rules: QualityRules) -> Assessment:
    """Hold every measure against its limits."""
    return Assessment(tuple(_judge(measure, rules.of(measure.name, measure.role)) for measure in measures))


_OF_UNKNOWN = {"accept": Verdict.ACCEPT, "warn": Verdict.WARN, "reject": Verdict.REJECT}


def _judge(measure: Measure, limits: Limits) -> Finding:
    if not measure.known:
        verdict = _OF_UNKNOWN[limits.unknown]
        finding = Finding(measure, verdict)
        return finding if verdict is Verdict.ACCEPT else Finding(measure, verdict, f"{finding.label}: {finding.text}")
    for verdict, below, above in (
        (Verdict.REJECT, limits.reject_below, limits.reject_above),
        (Verdict.WARN, limits.warn_below, limits.warn_above),
    ):
        if below is not None and measure.value < below:
            return _beyond(measure, verdict, "below", below)
        if above is not None and measure.value > above:
            return _beyond(measure, verdict, "above", above)
    return Finding(measure, Verdict.ACCEPT)


def _beyond(measure: Measure, verdict: Verdict, side: str, limit: float) -> Finding:
    finding = Finding(measure, verdict)
    because = f"{finding.label}: {finding.text}, {side} {_amount(measure.name, limit)}"
    return Finding(measure, verdict, because)


def _amount(name: str, value: float) -> str:
    definition = ALL_MEASURES[name]
    text = f"{value:.{definition.digits}f}"
    return f"{text} {definition.unit}" if definition.unit else text
