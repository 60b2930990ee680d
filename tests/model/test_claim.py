"""A folder is one process's at a time, and free again when that process dies, however it dies."""

import errno
import fcntl
import subprocess
import sys

import pytest

from model.claim import claimed

HOLD = """
import sys, time
from pathlib import Path
from model.claim import claimed
with claimed(Path(sys.argv[1]), wait=False) as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


def test_one_holds_it_and_others_are_told(tmp_path):
    with claimed(tmp_path, wait=False) as first, claimed(tmp_path, wait=False) as second:
        assert (first, second) == (True, False)
    with claimed(tmp_path, wait=False) as again:
        assert again


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        with claimed(tmp_path, wait=False) as ours:
            assert not ours
        process.kill()
        with claimed(tmp_path, wait=True) as ours:
            assert ours


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def unknown(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)  # what some mounts of network file systems answer
    with pytest.raises(OSError, match="keep it on another one"), claimed(tmp_path, wait=False):
        pass
