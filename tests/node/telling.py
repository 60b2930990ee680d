"""Telling the results of storage commitments without the durable engine, of which a process has only one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Timer

from sqlalchemy import Engine

from node.commitment_results import CommitmentResults
from node.commitment_services import CommitmentRequest
from node.settings import Settings


def telling(settings: Settings, engine: Engine) -> Callable[[CommitmentRequest], None]:
    """What a receiver is to be given: one attempt, a moment after the request was answered."""
    results = CommitmentResults(settings, engine)

    def tell(request: CommitmentRequest) -> None:
        Timer(0.5, results.attempt, (request, 1)).start()

    return tell
