"""A table, written as Markdown for people, CSV for programs and LaTeX for papers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LATEX = {
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "<": "$<$", ">": "$>$", "–": "--", "−": "$-$", "·": r"$\cdot$",
    "✓": r"$\checkmark$", "✗": r"$\times$", "×": r"$\times$", "±": r"$\pm$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """``rows`` of as many texts as there are ``columns``; ``notes`` stand under it, one sentence each."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row has {len(row)} cells for {len(self.columns)} columns: {row}")

    def markdown(self) -> str:
        """With its title as a heading."""
        lines = [f"## {self.title}", "", _row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def write_csv(self, path: Path) -> None:
        """Columns and rows, without title and notes."""
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.rows])

    def latex(self) -> str:
        """A tabular environment; ✓ needs the package amssymb."""
        rows = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in self.rows]
        head = " & ".join(_escaped(cell) for cell in self.columns) + r" \\"
        return "\n".join([
            f"% {self.title}", r"\begin{tabular}{" + "l" * len(self.columns) + "}", r"\hline", head, r"\hline", *rows,
            r"\hline", r"\end{tabular}", *(f"% {note}" for note in self.notes), "",
        ])  # fmt: skip


def write_tables(folder: Path, name: str, tables: Sequence[Table]) -> None:
    """``name.md`` and ``name.tex`` with all tables, and one CSV for each: ``name.csv``, ``name-2.csv`` …"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(table.markdown() for table in tables))
    (folder / f"{name}.tex").write_text("\n".join(table.latex() for table in tables))
    for number, table in enumerate(tables, start=1):
        table.write_csv(folder / (f"{name}.csv" if number == 1 else f"{name}-{number}.csv"))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _escaped(cell: str) -> str:
    for sign, written in _LATEX.items():
        cell = cell.replace(sign, written)
    return cell
