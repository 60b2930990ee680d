"""One table, three ways to write it."""

import csv

import pytest

from model.tables import Table, write_tables

ROW = ("T1 + k·(low − T1)", "31.6 (11.4)", "<5 mm: 50 %")
TABLE = Table("Who & what", ("method", "L2 (1e-5)", "seen"), (ROW,), ("A note.",))


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "## Who & what", "", "| method | L2 (1e-5) | seen |", "| --- | --- | --- |",
        "| T1 + k·(low − T1) | 31.6 (11.4) | <5 mm: 50 % |", "", "- A note.",
    ]  # fmt: skip


def test_latex_escapes():
    assert r"T1 + k$\cdot$(low $-$ T1) & 31.6 (11.4) & $<$5 mm: 50 \% \\" in TABLE.latex()
    assert TABLE.latex().count("{") == TABLE.latex().count("}")


def test_csv_reads_back(tmp_path):
    write_tables(tmp_path, "some", [TABLE, TABLE])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some-2.csv", "some.csv", "some.md", "some.tex"]
    with (tmp_path / "some.csv").open() as file:
        assert [tuple(row) for row in csv.reader(file)] == [TABLE.columns, *TABLE.rows]


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", ("a", "b"), (("x",),))
