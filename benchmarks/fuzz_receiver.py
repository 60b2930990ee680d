"""Mutated PDUs, command sets and data sets, slow and half-open peers against the receiver, for as long as one likes.

    python -m benchmarks.fuzz_receiver [--cases 20000] [--seed 1] [--at-once 8]

Prints what the receiver is left with: no more threads, sockets or files than before, no exception that nobody foresaw,
a C-ECHO within a second. Exits with 1 when that does not hold. tests/node/receive/test_fuzz.py runs a few hundred.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from node.associations import Associations
from node.commit import Reports
from node.database import open_database, ready
from node.receive import Receiver
from node.settings import load_settings
from tests.conftest import write_config
from tests.mr_slices import mr_slice
from tests.node.receive.raw_peer import (
    ASSOCIATE_AC,
    EXPLICIT,
    MR,
    P_DATA,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    associate_request,
    echo_command,
    pdu,
    store_command,
    value,
)
from tests.node.test_receive import encoded

_SETTLE_SECONDS = 20.0
_CONTEXTS = ((MR, EXPLICIT), (VERIFICATION, EXPLICIT))


@dataclass(frozen=True)
class Held:
    """What the process holds: threads of connections, open descriptors, files that have no name yet."""

    threads: int
    descriptors: int
    unfinished: int


class Faults(logging.Handler):
    """Counts what nobody foresaw: errors in the log of the node or of handlers of its, and threads that ended with an
    exception. A context manager."""

    _LOGS = ("node", "pynetdicom.service_class")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))

    def __enter__(self) -> Self:
        for name in self._LOGS:
            logging.getLogger(name).addHandler(self)
        self._hook, threading.excepthook = threading.excepthook, lambda thrown: self.seen.append(str(thrown.exc_value))
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._LOGS:
            logging.getLogger(name).removeHandler(self)
        threading.excepthook = self._hook


def held(incoming: Path) -> Held:
    threads = sum("AcceptorThread" in t.name or "process_request" in t.name for t in threading.enumerate())
    return Held(threads, len(os.listdir("/proc/self/fd")), len(list(incoming.iterdir())))  # noqa: PTH208


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change, cut, double or insert some bytes; a third of all stay as they are."""
    changed = bytearray(content)
    for _ in range(rng.choice([0, 1, 1, 3, 8])):
        if not changed:
            break
        place = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
        elif kind == 1:
            del changed[place : place + rng.randrange(1, 64)]
        elif kind == 2:
            changed[place:place] = rng.randbytes(rng.randrange(1, 16))
        else:
            changed = changed[:place]
    return bytes(changed)


def case(port: int, seed: int) -> None:
    """One peer: what it sends follows from the seed. Whatever the receiver answers is fine, as long as it ends."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    dataset = encoded(mr_slice("fuzz", rng.randrange(1, 5000)))
    command, request = store_command(instance=f"1.2.{seed}"), associate_request(contexts=_CONTEXTS)
    what = rng.randrange(6)
    if what == 0:
        request = mutate(request, rng)
    elif what == 1:
        command = mutate(command, rng)
    elif what == 2:
        dataset = mutate(dataset, rng)
    data = pdu(P_DATA, value(1, 3, command)) + pdu(P_DATA, value(1, rng.choice([2, 2, 2, 0, 1, 3]), dataset))
    if what == 3:
        data = mutate(data, rng)
    elif what == 4:
        data += data[: rng.randrange(len(data))]
    with contextlib.suppress(OSError), RawPeer(port) as peer:
        peer.socket.settimeout(rng.choice([0.05, 0.3, 5]))
        peer.send(request)
        if rng.random() < 0.9:
            peer.receive()
        peer.send(data)
        if rng.random() < 0.7:
            peer.receive()
        if rng.random() < 0.5:
            peer.send(pdu(RELEASE_RQ, bytes(4)))
            peer.receive()
        elif rng.random() < 0.05:
            time.sleep(rng.random())  # half open


def echo_seconds(port: int) -> float:
    """How long a C-ECHO takes, its association included. Raises AssertionError when it is not answered."""
    begin = time.monotonic()
    with RawPeer(port) as peer:
        assert peer.associate(contexts=_CONTEXTS) == ASSOCIATE_AC
        peer.send(pdu(P_DATA, value(3, 3, echo_command())))
        assert peer.status() == 0
    return time.monotonic() - begin


def fuzz(port: int, incoming: Path, cases: int, seed: int, at_once: int) -> tuple[Held, Held, float]:
    """Run so many cases; what was held before and after, and the seconds of the C-ECHO at the end."""
    echo_seconds(port)
    before = _settled(incoming, Held(0, 1 << 30, 0))
    with ThreadPoolExecutor(at_once) as pool:
        for number, _ in enumerate(pool.map(lambda n: case(port, seed * 1_000_000 + n), range(cases)), start=1):
            if number % 1000 == 0:
                print(f"{number} cases", file=sys.stderr, flush=True)
    return before, _settled(incoming, before), echo_seconds(port)


def _settled(incoming: Path, wanted: Held) -> Held:
    """What is held once it is no more than wanted, or after a while."""
    end = time.monotonic() + _SETTLE_SECONDS
    while True:
        now = held(incoming)
        fine = now.threads <= wanted.threads and now.descriptors <= wanted.descriptors
        if (fine and now.unfinished == 0) or time.monotonic() > end:
            return now
        time.sleep(0.1)


def main() -> int:
    """Parse the command line, run, print, judge."""
    logging.basicConfig(level=logging.ERROR)
    for chatty in ("pydicom", "pynetdicom"):  # each damaged value once more
        logging.getLogger(chatty).propagate = False
    warnings.simplefilter("ignore")  # pydicom's, of each value that was damaged
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), network_timeout_seconds=2.0, request_timeout_seconds=2.0)
        settings = load_settings(config)
        engine = open_database(settings)
        ready(engine)
        receiver = Receiver(
            settings, engine, Associations(), lambda: None, Reports(settings, engine), lambda request: None
        )
        receiver.start()
        begin = time.monotonic()
        port, incoming = settings.receiver.port, settings.node.data / "incoming"
        with Faults() as faults:
            before, after, echo = fuzz(port, incoming, chosen.cases, chosen.seed, chosen.at_once)
        receiver.stop()
    print(f"{chosen.cases} cases, seed {chosen.seed}, {time.monotonic() - begin:.0f} s")
    print(f"before {before}\nafter  {after}\nC-ECHO answered in {echo:.3f} s")
    print(f"{len(faults.seen)} faults nobody foresaw", *faults.seen[:5], sep="\n")
    # Descriptors of the database's connections come with the threads that use it, up to the pool's size.
    left = after.threads or after.unfinished or after.descriptors > before.descriptors + 15
    return 1 if left or faults.seen or echo >= 1 else 0


if __name__ == "__main__":
    sys.exit(main())
