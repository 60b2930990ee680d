"""The floors of the house: what a room may import. ``node`` stands on all others and is not looked at."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"node", "model", "preprocessing", "simulator", "benchmarks", "tests"}
MAY_IMPORT = {"preprocessing": {"preprocessing"}, "simulator": {"simulator"}, "model": {"model", "preprocessing"}}


def imported(path: Path) -> set[str]:
    """The first part of every module that a file imports, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_from_floors_below(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    wrong = {str(path.relative_to(ROOT)): imported(path) & ROOMS - MAY_IMPORT[room] for path in files}
    assert not {path: names for path, names in wrong.items() if names}
    dicom = {"pydicom", "pynetdicom", "highdicom"}
    assert room != "model" or not any(imported(path) & dicom for path in files), "model/ knows nothing of DICOM"
