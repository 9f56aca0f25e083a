"""Tables as text: cells in columns, aligned to the left or to the right."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Columns", "as_html", "as_page", "as_table"]


@dataclass(frozen=True)
class Columns:
    """How wide columns are, and where their cells stand.

    Parameters
    ----------
    widths : sequence of int
        Longer cells push the rest of their line to the right.
    left : collection of int
        Numbers of the columns that are aligned to the left.
    gap : str
        Between two columns.

    Examples
    --------
    >>> columns = Columns([6, 4], left={0})
    >>> print(columns.line(["relu", "12"]))
    relu      12
    """

    widths: Sequence[int]
    left: Collection[int] = ()
    gap: str = "  "

    def line(self, cells: Sequence[str]) -> str:
        """The cells as a line, without spaces at its end."""
        pairs = zip(cells, self.widths, strict=True)
        return self.gap.join(
            cell.ljust(width) if i in self.left else cell.rjust(width) for i, (cell, width) in enumerate(pairs)
        ).rstrip()

    @staticmethod
    def around(rows: Sequence[Sequence[str]], left: Collection[int] = (), gap: str = "  ") -> Columns:
        """Columns as wide as their widest cells."""
        return Columns([max(map(len, column)) for column in zip(*rows, strict=True)], left, gap)

    @staticmethod
    def under(headings: Sequence[str], least: int, left: Collection[int] = (), gap: str = "  ") -> Columns:
        """Columns as wide as their headings, and at least `least`: for rows that are printed one by one."""
        return Columns([max(len(heading), least) for heading in headings], left, gap)


def as_table(rows: Sequence[Sequence[str]], left: Collection[int] = (), footer: str | Sequence[str] = "") -> str:
    """A heading, a rule and the rows; with a footer, another rule and that.

    Parameters
    ----------
    rows : sequence of sequence of str
        The first is the heading.
    left : collection of int
        Numbers of the columns that are aligned to the left.
    footer : str or sequence of str
        A line of its own, or one more row.

    Examples
    --------
    >>> print(as_table([("layer", "ms"), ("conv1", "0.5")], left={0}, footer=("total", "0.5")))
    layer   ms
    ----------
    conv1  0.5
    ----------
    total  0.5
    """
    cells = [*rows] if isinstance(footer, str) else [*rows, footer]
    columns = Columns.around(cells, left)
    lines = [columns.line(row) for row in cells]
    rule = "-" * max(map(len, lines))
    last = [footer] if isinstance(footer, str) else [lines.pop()]
    return "\n".join([lines[0], rule, *lines[1:], *([rule, *last] if footer else [])])


def as_html(shown: object) -> str:
    """Return what ``print`` shows, for notebooks: in a font in which columns stand below each other.

    Examples
    --------
    >>> as_html("a < b")
    '<pre>a &lt; b</pre>'
    """
    return f"<pre>{html.escape(str(shown))}</pre>"


# Nothing is loaded and no script runs, whatever a name of a file or a class may hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def as_page(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return a page of parts in HTML, which loads nothing from elsewhere.

    Examples
    --------
    >>> page = as_page("a < b", ["<p>1</p>"])
    >>> "<title>a &lt; b</title>" in page, page.splitlines()[2:]
    (True, ['<p>1</p>', '</body></html>'])
    """
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head = f'<meta charset="utf-8">{policy}<title>{html.escape(title)}</title><style>{style}</style>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
