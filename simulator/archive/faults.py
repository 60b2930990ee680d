"""Faults that can be ordered from the archive, so that the other side can show what it does about them."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Faults:
    """What shall go wrong, from the moment it is ordered; 0 or None is: not. "So many" happen, and then no more.

    As receiver. ``refuse_associations``: refuse so many (rejected-transient, PS3.8 9.3.4). ``out_of_resources``: answer
    so many C-STORE requests with 0xA700 (PS3.4 B.2.3). ``abort_after``: abort one association after so many more
    instances. ``hang_seconds``: wait so long before the answer to every C-STORE.

    As sender. ``lose``: do not send so many instances that are in the index, by routing, C-MOVE or C-GET, and do not
    count them; routing takes them for sent. They come from the middle of a transfer, to leave a gap.
    ``late_slices``, ``late_seconds``: routing holds the last instances of every study back, that many, and sends them
    so much later over a new association. ``instances_per_association``: routing opens a new association after every
    so many. ``feign_moves``: so many C-STORE sub-operations of C-MOVE, again from the middle, are not performed and yet
    counted as completed, so that its final status is success (PS3.4 C.4.2.1.5, C.4.2.1.7).

    As storage commitment provider (PS3.4 J.3). ``withhold_commitments``: accept so many requests and never report.
    ``fail_commitments``: report so many instances as failed although they are held.

    Raises ``ValueError`` for a number that is negative or not finite.
    """

    refuse_associations: int = 0
    out_of_resources: int = 0
    abort_after: int | None = None
    hang_seconds: float = 0.0
    lose: int = 0
    late_slices: int = 0
    late_seconds: float = 0.0
    instances_per_association: int = 0
    feign_moves: int = 0
    withhold_commitments: int = 0
    fail_commitments: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {value}")


class FaultOrder:
    """The faults still to happen: each occasion is taken once, whatever thread asks."""

    def __init__(self, faults: Faults) -> None:
        self.hang_seconds = faults.hang_seconds
        self.late_seconds = faults.late_seconds
        self.instances_per_association = faults.instances_per_association
        self._late_slices = faults.late_slices
        self._held_back: set[Hashable] = set()
        self._until_abort = faults.abort_after
        self._left = asdict(faults)
        self._lock = threading.Lock()

    def refuse(self) -> bool:
        """Whether this association is to be refused."""
        return self._take("refuse_associations", 1) == 1

    def be_out_of_resources(self) -> bool:
        """Whether this C-STORE is to fail for want of resources."""
        return self._take("out_of_resources", 1) == 1

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

    def lose(self, transfer: Sequence[T]) -> Sequence[T]:
        """Those of the transfer that are to be lost."""
        return self._take_from_middle("lose", transfer)

    def feign(self, transfer: Sequence[T]) -> Sequence[T]:
        """Those of a C-MOVE that are to be counted as sent without being sent."""
        return self._take_from_middle("feign_moves", transfer)

    def hold_back(self, route: Hashable, transfer: Sequence[T]) -> Sequence[T]:
        """Those of the transfer that are to be sent ``late_seconds`` later; none but in the first one of a route."""
        with self._lock:
            if not transfer or not self._late_slices or route in self._held_back:
                return ()
            self._held_back.add(route)
        return transfer[-self._late_slices:]

    def withhold_commitment(self) -> bool:
        """Whether this request for storage commitment is never to be reported on."""
        return self._take("withhold_commitments", 1) == 1

    def fail_commitment(self) -> bool:
        """Whether this instance is to be reported as not committed."""
        return self._take("fail_commitments", 1) == 1

    def _take_from_middle(self, fault: str, transfer: Sequence[T]) -> Sequence[T]:
        count = self._take(fault, len(transfer))
        start = (len(transfer) - count) // 2
        return transfer[start : start + count]

    def _take(self, fault: str, at_most: int) -> int:
        with self._lock:
            taken = min(self._left[fault], at_most)
            self._left[fault] -= taken
            return int(taken)
