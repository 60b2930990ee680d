"""Tables and paragraphs of a page in Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from pydicom.uid import UID


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; a bar within a cell stays a bar."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def named(uid: str) -> str:
    """A UID's name in the standard, the UID itself where it has none."""
    return str(UID(uid).name)


def wrapped(page: str) -> str:
    """The page with its paragraphs broken at the width of this project's pages."""
    blocks = page.split("\n\n")
    return "\n\n".join(block if _AS_IT_IS.match(block) else _fill(block) for block in blocks)


_AS_IT_IS = re.compile(r"[|#]|\d\. ")


def _fill(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def _cell(content: object) -> str:
    return str(content).replace("|", "\\|")
