"""How faults are written on the command line: ``NAME=NUMBER``, or ``late=COUNT:SECONDS``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.archive.faults import Faults


@dataclass(frozen=True)
class _Spelling:
    form: str
    fields: tuple[str, ...]
    meaning: str


_SPELLINGS = {spelling.form.partition("=")[0]: spelling for spelling in (
    _Spelling("refuse=N", ("refuse_associations",), "refuse N associations"),
    _Spelling("full=N", ("out_of_resources",), "answer N C-STORE requests with 0xA700, out of resources"),
    _Spelling("abort=N", ("abort_after",), "abort one association after N more instances"),
    _Spelling("hang=SECONDS", ("hang_seconds",), "answer every C-STORE so late"),
    _Spelling("lose=N", ("lose",), "do not send N instances that are in the index"),
    _Spelling("late=N:SECONDS", ("late_slices", "late_seconds"), "route the last N instances of every study so late"),
    _Spelling("split=N", ("instances_per_association",), "route over a new association after every N instances"),
    _Spelling("feign=N", ("feign_moves",), "count N sub-operations of C-MOVE as completed without performing them"),
    _Spelling("withhold=N", ("withhold_commitments",), "never report on N requests for storage commitment"),
    _Spelling("uncommit=N", ("fail_commitments",), "report N instances as not committed although they are held"),
)}

FAULTS_HELP = "Faults, as in --fault late=3:5 --fault split=10:\n" + "\n".join(
    f"  {spelling.form:<15} {spelling.meaning}" for spelling in _SPELLINGS.values()
)
"""One line for each fault that can be written."""


def parse_faults(texts: Iterable[str]) -> Faults:
    """The faults of all the texts together; raises ``ValueError`` that says how a wrong one should be written."""
    values: dict[str, float] = {}
    for text in texts:
        name, _, written = text.partition("=")
        if name not in _SPELLINGS:
            raise ValueError(f"a fault is one of {', '.join(one.form for one in _SPELLINGS.values())}; got {text!r}")
        spelling = _SPELLINGS[name]
        try:
            for field, number in zip(spelling.fields, written.split(":"), strict=True):
                values[field] = float(number) if field.endswith("_seconds") else int(number)
            Faults(**values)  # type: ignore[arg-type]  # whole numbers where they must be, as just above
        except ValueError:
            raise ValueError(f"the fault is written {spelling.form}, with no negative number; got {text!r}") from None
    return Faults(**values)  # type: ignore[arg-type]
