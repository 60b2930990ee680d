"""What `pip install` takes along, as deploy/README.md has it done: beside the code, the files that the code reads."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]


@pytest.mark.parametrize("room", ["node", "model", "preprocessing", "simulator"])
def test_every_file_of_a_room_is_installed_with_it(room: str) -> None:
    patterns = [pattern.replace("**/", "*") for pattern in DATA.get(room, [])]
    left = [
        path.relative_to(ROOT / room) for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".")
    ]  # fmt: skip
    missing = [str(path) for path in left if not any(fnmatch(str(path), pattern) for pattern in patterns)]
    assert not missing, f"name them in [tool.setuptools.package-data]: {missing}"
