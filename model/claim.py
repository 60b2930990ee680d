"""One process at a time on a folder, by a lock that the system takes back from whoever dies.

No list of who does what has to be kept or repaired: a process that was killed in the middle of a fold holds nothing
any more, and the next one goes on from its checkpoint. Where several machines share the folder, its file system must
know flock(2) across machines (NFS from version 4 on does).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLAIM = "claim.lock"


@contextmanager
def claimed(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold ``folder`` inside; yields whether it is ours. ``wait``: until whoever holds it has let go, or has died.
    Raises OSError for a file system without locks."""
    with (folder / CLAIM).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            why = "its file system knows no locks (flock): keep it on another one"
            raise OSError(error.errno, why, str(folder)) from error
        yield True
