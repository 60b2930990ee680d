"""The record of a verdict, and of a person who accepted a study in spite of one."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.quality.verdict import Assessment, Verdict
from node.tables import QualityCheck, Study, now

_LONGEST = 200  # characters of a person's reason, or of the warnings, that travel in a header


def record(session: Session, study: Study, assessment: Assessment) -> QualityCheck:
    """Write the verdict on the study's current inputs; an earlier one on the same inputs is replaced, its acceptance
    by a person kept."""
    row = latest(session, study)
    if row is None:
        row = QualityCheck(study_id=study.id, inputs_digest=study.inputs_digest)
        session.add(row)
    row.run, row.checked = study.run, now()
    row.verdict = assessment.verdict
    row.reasons = assessment.sentences(Verdict.REJECT)
    row.warnings = assessment.sentences(Verdict.WARN)
    row.measures = [
        {
            "name": finding.measure.name, "role": finding.measure.role, "label": finding.label, "text": finding.text,
            "value": finding.measure.value if finding.measure.known else None, "verdict": finding.verdict,
        }
        for finding in assessment.findings
    ]  # fmt: skip
    session.flush()
    return row


def latest(session: Session, study: Study) -> QualityCheck | None:
    """The verdict on what the study holds now, if there is one."""
    return session.scalar(
        select(QualityCheck).where(
            QualityCheck.study_id == study.id, QualityCheck.inputs_digest == study.inputs_digest
        )
    )


def is_rejected(row: QualityCheck | None) -> bool:
    """Whether nothing may be synthesised: rejected, and nobody accepted it."""
    return row is not None and row.verdict == Verdict.REJECT and not row.accepted_by


def headline(row: QualityCheck | None) -> str:
    """What the derived series says of its inputs' quality: a sentence of ASCII, empty when there is nothing to say."""
    if row is None or row.verdict == Verdict.ACCEPT:
        return ""
    if row.accepted_by:
        why = _short(row.accepted_because)
        return f"Quality control REJECTED the inputs ({_short('; '.join(row.reasons))}); a person accepted them: {why}."
    return f"Quality control accepted the inputs with warnings ({_short('; '.join(row.warnings))})."


def _short(text: str) -> str:
    plain = text.replace("²", "2").replace("°", " deg").encode("ascii", "replace").decode().replace("\\", "/")
    printable = "".join(letter for letter in plain if letter.isprintable())
    return printable if len(printable) <= _LONGEST else f"{printable[: _LONGEST - 4]} ..."
