"""Waiting for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 10.0, every: float = 0.05) -> T:
    """The first truthy thing that ``look`` gives. Fails the test with its last answer after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s; last seen: {found!r}"
        time.sleep(every)
