"""What many tests need: a configuration on free ports, a peer program, one simulated patient and study."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from node.settings import Settings, load_settings
from simulator.lesions import Condition
from simulator.scanner import Layout, Scanner
from simulator.study import StudyFiles, write_study
from simulator.subject import Subject, SubjectSettings, simulate_subject

# Thick partitions make a third of the files; nothing else differs.
SCANNER = Scanner(layout=Layout.MOSAIC, scanner_adc=True, t1_slice_mm=3.6)
ROOT = Path(__file__).parents[1]
_SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole processes first: these tests are the longest, and a process that is left with one of them at the end works
    alone while the other is idle."""
    items.sort(key=lambda item: "system" not in item.path.parts)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ConfigMaker = Callable[..., Path]


def write_config(where: Path, /, **lines: object) -> Path:
    """The shipped config.toml in the folder ``where``, on free ports, with some ``key = value`` lines replaced.

    A key that several tables have is named with its table: ``delivery__timeout_seconds=1``.
    """
    path = where / "config.toml"
    text = (ROOT / "config.toml").read_text()
    text = text.replace("port = 11112", f"port = {free_port()}").replace("port = 11113", f"port = {free_port()}")
    written = text.splitlines()
    for name, value in lines.items():
        table, _, key = name.rpartition("__")
        found = [
            number for number, line in enumerate(written)
            if line.split("=")[0].strip() == key and table in ("", _table_of(written, number))
        ]  # fmt: skip
        assert len(found) == 1, f"{name} stands {len(found)} times in config.toml"
        written[found[0]] = f"{key} = {value}"
    path.write_text("\n".join(written) + "\n")
    return path


def _table_of(lines: list[str], number: int) -> str:
    return next((line.strip("[] ") for line in reversed(lines[:number]) if re.match(r"\[+[\w.]+\]+$", line)), "")


@pytest.fixture
def make_config(tmp_path: Path) -> ConfigMaker:
    """Writes a configuration into the test's own folder."""
    return partial(write_config, tmp_path)


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    """The shipped configuration on free ports, with its data in a temporary folder."""
    return load_settings(make_config())


def require(program: str) -> str:
    """The path of a peer program; the test fails, with what to install, when it is missing."""
    # The system's first: an activated environment has a storescu of pynetdicom's, which is not DCMTK's.
    found = shutil.which(program, path=":".join(_SYSTEM_FOLDERS)) or shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is missing: apt-get install orthanc orthanc-dicomweb dcmtk dicom3tools nginx-light")
    return found


@pytest.fixture(scope="session")
def phantom() -> Subject:
    """A patient with a glioblastoma, on the phantom that needs no files: simulating it takes half a minute."""
    return simulate_subject(7, settings=SubjectSettings(condition=Condition.GLIOBLASTOMA))


@pytest.fixture(scope="session")
def phantom_study(phantom: Subject, tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """That patient on a Siemens scanner with mosaics and an ADC map. For reading only: all tests share it."""
    return write_study(phantom, tmp_path_factory.mktemp("study"), SCANNER)
