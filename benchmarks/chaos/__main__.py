"""Whether the node loses, doubles or forgets anything while everything around it fails.

    python -m benchmarks.chaos --studies 200 --senders 16 --kills 50 --seed 1

``--studies`` studies come from ``--senders`` senders (DCMTK's storescu, which try again like a PACS's router) through a
proxy that resets connections inside a PDU, between two, and inside an answer; results go to a real Orthanc through
another such proxy. `quarterdose run` and its processes are killed with -9, its disk (an ext4 file system of its own) is
filled to the last byte and emptied, its database locked, the PACS stopped for minutes, all at random moments of the
first ``--minutes``; whatever ends is started again.

Afterwards every instance for which a sender was answered success has to be there, byte for byte, and every complete
study at the PACS as one series, committed. What is small: 34 + 34 slices of 104 x 96 for each study, and the network's
width (C = 1, untrained); all else is done as for any study. Brain extraction takes most of the time, about ten seconds
of processor time a study: ``--complete N`` has only N of the studies processed, the others hold a T1 alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.chaos.plan import Plan
from benchmarks.chaos.run import Outcome, run_chaos
from benchmarks.chaos.studies import simulate_template


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--studies", type=int, default=Plan.studies)
    parser.add_argument("--complete", type=int, help="how many of them are to be processed; default: all")
    parser.add_argument("--senders", type=int, default=Plan.senders)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="in which the faults lie")
    parser.add_argument("--limit", type=float, default=Plan.limit_minutes, help="minutes after which it is judged")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs, which is kept")
    given = parser.parse_args()
    complete = given.studies if given.complete is None else given.complete
    plan = replace(
        Plan(given.seed, given.studies, complete, given.senders, given.kills),
        minutes=given.minutes, limit_minutes=given.limit,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        template = simulate_template(folder / "template")
        outcome = run_chaos(plan, template, folder, lambda line: print(line, flush=True))
    print(report(plan, outcome))
    sys.exit(bool(outcome.verdict.wrong))


def report(plan: Plan, outcome: Outcome) -> str:
    """The figures of a run, and what was wrong."""
    verdict = outcome.verdict
    node, pacs = (", ".join(f"{count} {cut}" for cut, count in resets.items()) or "none" for resets in outcome.resets)
    lines = [
        f"seed {plan.seed}: {plan.studies} studies, {plan.complete} of them complete, from {plan.senders} senders, "
        f"{outcome.minutes:.1f} minutes",
        *(f"  {count} × {fault}" for fault, count in sorted(outcome.faults.items())),
        f"  connections reset: senders {node}; to the PACS {pacs}",
        f"  the node was started {outcome.starts} times",
        f"  {outcome.associations} associations of senders; answers: {dict(outcome.answers)}",
        f"  {verdict.acknowledged} instances acknowledged; {verdict.delivered} studies delivered; "
        f"{verdict.committed} committed, {verdict.confirmed} found by query instead",
        *(f"WRONG: {line}" for line in verdict.wrong),
        "nothing lost, nothing twice, all delivered" if not verdict.wrong else f"{len(verdict.wrong)} wrong",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
