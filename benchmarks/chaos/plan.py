"""How much of what is done to the node; everything random in a run follows from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """One run. Faults lie at random moments of the first ``minutes``; after ``limit_minutes`` it is judged as it is.

    ``complete`` of the ``studies`` hold T1 and low-dose T1 and are to be processed; the others hold a T1 only.
    ``kills`` are kill -9 of the node's main process, of its numeric process, or of another child, drawn in turn.
    ``locks`` and ``fills`` last ``lock_seconds`` and ``fill_seconds``; ``outages`` are the seconds the PACS is gone.
    ``resets``: the share of connections, to the node and to the PACS, that the proxies reset.
    """

    seed: int
    studies: int = 200
    complete: int = 200
    senders: int = 16
    kills: int = 50
    minutes: float = 25.0
    limit_minutes: float = 90.0
    fills: int = 3
    fill_seconds: tuple[float, float] = (10.0, 30.0)
    locks: int = 6
    lock_seconds: tuple[float, float] = (3.0, 20.0)
    outages: tuple[float, ...] = (180.0, 60.0)
    resets: float = 0.3

    def random(self, purpose: str) -> random.Random:
        """Random numbers of their own for each purpose: threads that draw them cannot disturb each other."""
        return random.Random(f"{self.seed} {purpose}")  # noqa: S311 - faults, no secrets

    def moments(self, purpose: str, count: int, until: float = 1.0) -> list[float]:
        """``count`` random moments in the first ``until`` of ``minutes``, in seconds from the start, in order."""
        rng = self.random(purpose)
        return sorted(rng.uniform(5.0, self.minutes * 60 * until) for _ in range(count))
