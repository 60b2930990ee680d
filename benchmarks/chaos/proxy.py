"""A TCP proxy that resets connections: in the middle of a PDU, between two, or when the answer is on its way."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_HEADER = 6  # of a PDU: type, reserved, length (PS3.8 section 9.3)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST


class Cut(StrEnum):
    """Where a connection is reset."""

    INSIDE = "inside a PDU of the caller"
    BETWEEN = "between two PDUs of the caller"
    ANSWER = "inside an answer"


@dataclass
class Fate:
    """What becomes of one connection: reset at ``left`` more bytes (or whole PDUs) of its direction, or never."""

    cut: Cut | None
    left: int
    _in_pdu: int = 0  # bytes of the present PDU that are still to come
    _header: bytes = b""

    def passes(self, data: bytes, from_caller: bool) -> int:
        """How many of these bytes go through before the reset; all of them when there is none yet."""
        if self.cut is None or from_caller == (self.cut is Cut.ANSWER):
            return len(data)
        if self.cut is not Cut.BETWEEN:
            self.left -= len(data)
            return len(data) if self.left > 0 else max(0, len(data) + self.left)
        return self._whole_pdus(data)

    def _whole_pdus(self, data: bytes) -> int:
        place = 0
        while place < len(data):
            if self._in_pdu == 0:
                taken = data[place : place + _HEADER - len(self._header)]
                self._header += taken
                place += len(taken)
                if len(self._header) == _HEADER:
                    self._in_pdu, self._header = int.from_bytes(self._header[2:], "big"), b""
                continue
            step = min(self._in_pdu, len(data) - place)
            place, self._in_pdu = place + step, self._in_pdu - step
            self.left -= self._in_pdu == 0
            if self.left == 0:
                return place
        return place

    @property
    def is_over(self) -> bool:
        return self.cut is not None and self.left <= 0


class ResettingProxy:
    """Listens on ``port``, forwards to ``upstream`` on this machine, and resets a share of the connections.

    A context manager. ``resets`` counts by kind; ``unreached`` are connections for which nobody listened behind.
    """

    def __init__(self, port: int, upstream: int, share: float, rng: random.Random) -> None:
        self.resets: Counter[Cut] = Counter()
        self.connections = self.unreached = 0
        self.port = port
        self._upstream, self._share, self._rng = upstream, share, rng
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_CHUNK)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        self.connections += 1
        fate = self._draw()
        try:
            node, to_node = await asyncio.open_connection("127.0.0.1", self._upstream, limit=_CHUNK)
        except OSError:
            self.unreached += 1
            _reset(to_caller)
            return
        for writer in (to_caller, to_node):
            writer.transport.set_write_buffer_limits(0)  # what `drain` returns from has left
        try:
            ways = (self._pump(caller, to_node, fate, True), self._pump(node, to_caller, fate, False))
            await asyncio.gather(*ways)
        except OSError:  # ours, or one of the two has ended it
            pass
        for writer in (to_caller, to_node):
            _reset(writer) if fate.is_over else writer.close()
        if fate.cut is not None and fate.is_over:
            self.resets[fate.cut] += 1

    def _draw(self) -> Fate:
        """Bytes over several orders of magnitude, so that the first association request is hit, and the last slice."""
        if self._rng.random() >= self._share:
            return Fate(None, 0)
        cut = self._rng.choice(list(Cut))
        largest = {Cut.INSIDE: 2e6, Cut.BETWEEN: 150, Cut.ANSWER: 2e4}[cut]
        return Fate(cut, max(1, round(largest ** self._rng.random())))

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, fate: Fate, from_caller: bool
    ) -> None:
        while data := await source.read(_CHUNK):
            target.write(data[: fate.passes(data, from_caller)])
            await target.drain()
            if fate.is_over:
                raise ConnectionResetError
        with contextlib.suppress(OSError):
            target.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
