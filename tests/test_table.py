"""Tables as text: aligned as told, as wide as needed, nothing at the ends of lines."""

from __future__ import annotations

import pytest

from fastcnn._table import Columns, as_table

ROWS = [("layer", "ms", "kernel"), ("a", "12.5", "direct"), ("a longer name", "1", "")]


def test_columns_are_as_wide_as_their_widest_cells():
    columns = Columns.around(ROWS, left={0, 2})
    assert columns.widths == [13, 4, 6]
    assert [columns.line(row) for row in ROWS] == [
        "layer            ms  kernel",
        "a              12.5  direct",
        "a longer name     1",
    ]


def test_fixed_columns_let_long_cells_stand_out():
    columns = Columns([3, 5], left={0}, gap=" ")
    assert [columns.line(row) for row in (("a", "1"), ("abcdef", "1"))] == ["a       1", "abcdef     1"]
    with pytest.raises(ValueError, match="zip"):
        columns.line(["a"])


def test_columns_under_headings_know_no_rows_yet():
    columns = Columns.under(["network", "ms", "peak in megabytes"], 9, left={0})
    assert columns.widths == [9, 9, 17]
    assert columns.line(["LeNet", "0.1", "12"]) == "LeNet            0.1                 12"


@pytest.mark.parametrize(
    ("footer", "end"),
    [("", []), ("3 rows", ["-" * 27, "3 rows"]), (("total", "13.5", ""), ["-" * 27, "total          13.5"])],
)
def test_rules_are_as_long_as_the_longest_row(footer, end):
    lines = as_table(ROWS, {0, 2}, footer).splitlines()
    assert lines[1] == "-" * 27 and len(lines[0]) == 27
    assert lines[4:] == end
