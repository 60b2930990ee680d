"""Faults that can be ordered from the archive, so that the other side can show what it does about them."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """What shall go wrong, from the moment it is ordered.

    ``refuse_associations``: refuse so many (rejected-transient, PS3.8 9.3.4). ``out_of_resources``: answer so many
    C-STORE requests with 0xA700 (PS3.4 B.2.3). ``abort_after``: abort one association after so many more instances.
    ``hang_seconds``: wait so long before the answer to every C-STORE.
    """

    refuse_associations: int = 0
    out_of_resources: int = 0
    abort_after: int | None = None
    hang_seconds: float = 0.0


class FaultOrder:
    """The faults still to happen: each occasion is taken once, whatever thread asks."""

    def __init__(self, faults: Faults) -> None:
        self.hang_seconds = faults.hang_seconds
        self._refusals = faults.refuse_associations
        self._out_of_resources = faults.out_of_resources
        self._until_abort = faults.abort_after
        self._lock = threading.Lock()

    def refuse(self) -> bool:
        """Whether this association is to be refused."""
        with self._lock:
            self._refusals -= 1
            return self._refusals >= 0

    def be_out_of_resources(self) -> bool:
        """Whether this C-STORE is to fail for want of resources."""
        with self._lock:
            self._out_of_resources -= 1
            return self._out_of_resources >= 0

    def abort(self) -> bool:
        """Whether the association is to be aborted instead of storing this instance."""
        with self._lock:
            if self._until_abort is None:
                return False
            self._until_abort -= 1
            if self._until_abort >= 0:
                return False
            self._until_abort = None
            return True
