"""Reading multipart/related as it comes (RFC 2046 section 5.1.1): a part takes no more memory than a chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

_LONGEST_HEADER = 1 << 16


class MultipartError(Exception):
    """What came is not multipart, or ends before its last boundary."""


def boundary_of(content_type: str) -> bytes:
    """The parameter of a header Content-Type; empty when that is not multipart. Raises MultipartError without one."""
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_maintype() != "multipart":
        return b""
    boundary = header.get_boundary()
    if not boundary:
        raise MultipartError("multipart without a boundary")
    return boundary.encode("latin-1", "replace")


class Multipart:
    """The parts in ``chunks`` one after another, each the chunks of its content, without its header. What is not read
    of a part is skipped."""

    def __init__(self, chunks: Iterable[bytes], boundary: bytes) -> None:
        self._chunks = iter(chunks)
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first boundary may stand at the very beginning

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        """Raises MultipartError, also while a part is read."""
        _skip(self._content())  # a preamble
        while not self._is_last():
            self._skip_header()
            content = self._content()
            yield content
            _skip(content)

    def _content(self) -> Iterator[bytes]:
        """Up to the next delimiter, which is taken off."""
        while (end := self._buffer.find(self._delimiter)) < 0:
            certain = len(self._buffer) - len(self._delimiter) + 1  # behind it a delimiter may have begun
            if certain > 0:
                yield self._take(certain)
            self._more()
        if end:
            yield self._take(end)
        self._take(len(self._delimiter))

    def _is_last(self) -> bool:
        while len(self._buffer) < 2:
            self._more()
        return self._buffer.startswith(b"--")

    def _skip_header(self) -> None:
        """From the end of the delimiter's own line to the empty one; there may be nothing between them."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _LONGEST_HEADER:
                raise MultipartError("a part's header does not end")
            self._more()
        self._take(end + 4)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise MultipartError("it ends before its last boundary")
        self._buffer += chunk


def _skip(content: Iterator[bytes]) -> None:
    for _ in content:
        pass
