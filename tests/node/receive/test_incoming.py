"""Small data sets stay in memory, large ones go to a file; both are the same bytes, and neither leaves anything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.receive.incoming import LARGEST_HELD, Incoming

SYNTAX = "1.2.840.10008.1.2.1"


def incoming(folder: Path) -> Incoming:
    return Incoming(folder, "1.2.840.10008.5.1.4.1.1.4", "1.2.3", SYNTAX, lambda: None)


@given(st.lists(st.integers(0, LARGEST_HELD * 2 // 3), max_size=4))
def test_whatever_its_size_it_is_what_came(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("incoming")
    one = incoming(folder)
    fragments = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    for fragment in fragments:
        one.write(fragment)
    sent = b"".join(fragments)
    assert (one.held is None) == (one.size > LARGEST_HELD) == bool(list(folder.iterdir()))
    assert (one.digest, one.size) == (hashlib.sha256(sent).hexdigest(), one.content_start + len(sent))
    with one.view() as content:
        assert content[one.content_start :] == sent
        whole = content[:]
    one.complete()
    assert one.path.read_bytes() == whole
    one.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["open", "write"])
def test_a_disk_that_is_full_is_said_at_the_end(tmp_path, monkeypatch, name):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    one = incoming(tmp_path)
    monkeypatch.setattr(f"os.{name}", full)
    one.write(bytes(LARGEST_HELD))
    one.write(b"the rest still comes")
    with pytest.raises(OSError, match="No space"):
        one.check()
    one.close()
    assert list(tmp_path.iterdir()) == []
