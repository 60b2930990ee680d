"""Waiting while the disk is full or the database locked: it passes, and no study is at fault."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import OperationalError

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
_GIVE_UP_SECONDS = 3600.0  # then it is told as what it is, and waits for a person


class OutOfResourcesError(Exception):
    """There is no room on the disk, or the database cannot be written; the same thing may be tried again later."""


def is_out_of_resources(error: BaseException) -> bool:
    """Whether this says nothing but that disk or database do not take anything just now."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(error, OperationalError | OutOfResourcesError)


def patiently(do: Callable[[], T], what: str) -> T:
    """Do it, again and again while it fails for want of resources; it must be harmless to repeat. Raises what ``do``
    raises otherwise, or when patience has ended."""
    end, pause = time.monotonic() + _GIVE_UP_SECONDS, _FIRST_SECONDS
    while True:
        try:
            return do()
        except (OutOfResourcesError, OperationalError, OSError) as error:
            if not is_out_of_resources(error) or time.monotonic() > end:
                raise
            log.error("%s: %s; tried again in %g s", what, _shortly(error), pause)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_SECONDS)


def _shortly(error: BaseException) -> str:
    return str(error.orig if isinstance(error, OperationalError) else error)
