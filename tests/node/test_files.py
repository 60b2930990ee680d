"""Files: written whole or not at all, and named by nothing that came from the wire."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.files import DataFolder, safe_name, write_durably


@given(st.text(max_size=80))
def test_a_name_from_the_wire_never_becomes_part_of_a_path(text):
    assert safe_name(text).isalnum()
    assert len(safe_name(text)) == 20


@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
def test_different_names_stay_different(names):
    assert len({safe_name(name) for name in names}) == len(names)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    folder = DataFolder(tmp_path)
    final = folder.received("study", "series", "1.2", "abc")
    write_durably(b"old", final, folder.incoming)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(b"new", final, folder.incoming)
    assert final.read_bytes() == b"old"
    assert list(folder.incoming.iterdir()) == []


def test_every_folder_that_gained_an_entry_is_synced(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.open

    def spy(path: object, flags: int, *rest: int) -> int:
        synced.append(str(path))
        return real(path, flags, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", spy)
    folder = DataFolder(tmp_path)
    final = folder.received("study", "series", "1.2", "abc")
    write_durably(b"data", final, folder.incoming)
    above = [tmp_path, *(final.parents[n] for n in (0, 1, 2, 3))]
    assert {str(path) for path in above} <= set(synced)
