"""docs/peers.md: every test it names exists, and every row either names one or says that the service is not there."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.conftest import ROOT

_TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
_ROWS = [
    line for line in (ROOT / "docs" / "peers.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| service |", "| fault |"))
]  # fmt: skip


@cache
def defined_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", _ROWS)
def test_a_row_names_tests_that_exist(row):
    named = _TEST.findall(row)
    assert named or re.search(r"not (offered|asked for)", row), "neither a test nor that there is nothing"
    for path, name in named:
        assert name in defined_in(path), f"{path} has no {name}"


def test_the_page_has_its_rows():
    assert len(_ROWS) > 40
    services = [row.split("|")[1].strip() for row in _ROWS]
    assert services[0] == "Verification (C-ECHO)"
