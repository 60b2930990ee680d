"""Parts of multipart/related come out as they went in, however the network has cut them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.multipart import Multipart, MultipartError, boundary_of

# As near to a boundary as content may come without holding one.
PIECES = st.sampled_from([b"\r\n--edg", b"--edge", b"\r\n--", b"\r\n", b"\r", b"-", b"e", b"\x00\xff", b"DICM" * 40])
CONTENT = st.lists(PIECES, max_size=8).map(b"".join).filter(lambda content: b"\r\n--edge" not in b"\r\n" + content)


def body(contents: list[bytes], header: bytes = b"Content-Type: application/dicom\r\n") -> bytes:
    parts = b"".join(b"--edge\r\n" + header + b"\r\n" + content + b"\r\n" for content in contents)
    return b"a preamble\r\n" + parts + b"--edge--\r\nan epilogue"


def cut(whole: bytes, size: int) -> Iterator[bytes]:
    return (whole[start : start + size] for start in range(0, len(whole), size))


@given(st.lists(CONTENT, min_size=1, max_size=4), st.integers(1, 300), st.booleans())
def test_what_goes_in_comes_out(contents: list[bytes], size: int, headers: bool) -> None:
    whole = body(contents) if headers else body(contents, b"")
    assert [b"".join(part) for part in Multipart(cut(whole, size), b"edge")] == contents


@given(st.lists(CONTENT, min_size=2, max_size=4), st.integers(1, 300))
def test_what_is_not_read_is_skipped(contents: list[bytes], size: int) -> None:
    parts = iter(Multipart(cut(body(contents), size), b"edge"))
    next(next(parts), None)  # no more than the beginning
    assert b"".join(next(parts)) == contents[1]


@given(st.lists(CONTENT, min_size=1, max_size=3), st.integers(1, 50), st.data())
def test_what_is_cut_off_is_never_taken_for_whole(contents: list[bytes], size: int, data: st.DataObject) -> None:
    whole = body(contents)
    end = data.draw(st.integers(0, whole.rindex(b"--edge--") + len(b"--edge-")))
    read: list[bytes] = []
    with pytest.raises(MultipartError, match="ends before its last boundary"):
        read.extend(b"".join(part) for part in Multipart(cut(whole[:end], size), b"edge"))
    assert read == contents[: len(read)]


def test_a_large_part_comes_in_pieces() -> None:
    large = bytes(1 << 20)
    [sizes] = [[len(piece) for piece in part] for part in Multipart(cut(body([large]), 1000), b"edge")]
    assert sum(sizes) == len(large)
    assert max(sizes) <= 1000 + len(b"\r\n--edge")


def test_a_header_that_never_ends_does() -> None:
    with pytest.raises(MultipartError, match="header does not end"):
        list(Multipart(cut(b"--edge\r\n" + b"x" * 200_000, 1000), b"edge"))


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=edge', b"edge"),
        ('Multipart/Related; BOUNDARY="a b; c"; type="application/dicom"', b"a b; c"),
        ("application/dicom", b""),
        ("", b""),
    ],
)
def test_the_boundary_is_read_from_the_header(header: str, boundary: bytes) -> None:
    assert boundary_of(header) == boundary
