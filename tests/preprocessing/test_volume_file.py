"""Volumes as files: whole or not at all, without pickle, and never taken for something else."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.volume import Geometry, Volume
from preprocessing.volume_file import load_volume, save_volume

VOLUME = Volume(
    np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    Geometry((4, 3, 2), (-1.5, 2.25, 3.0), (0.9, 1.1, 5.5), tuple(np.eye(3).ravel()), "1.2.3"),
    "series 1.2.3.4",
)


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "folder" / "t1.npz"
    save_volume(path, VOLUME)
    loaded = load_volume(path)
    np.testing.assert_array_equal(loaded.array, VOLUME.array)
    assert (loaded.geometry, loaded.source) == (VOLUME.geometry, VOLUME.source)
    assert [file.name for file in path.parent.iterdir()] == ["t1.npz"], "no temporary file stays"


@pytest.mark.parametrize("spoil", [lambda data: data[:200], lambda data: b"", lambda data: b"not a zip file" * 9])
def test_a_spoilt_file_is_named(tmp_path, spoil):
    path = tmp_path / "t1.npz"
    save_volume(path, VOLUME)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=r"t1\.npz"):
        load_volume(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t1.npz"
    save_volume(path, VOLUME)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_volume(path, VOLUME.with_array(VOLUME.array + 1))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["t1.npz"]


def test_an_array_of_objects_is_not_loaded(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, array=np.array([{"a": 1}], dtype=object), header=np.frombuffer(b"{}", np.uint8))
    with pytest.raises(ValueError, match=r"evil\.npz"):
        load_volume(path)
