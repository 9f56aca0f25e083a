"""The picture of `fastcnn explain`, by matplotlib: the same as the page, in one image."""

from __future__ import annotations

from math import ceil
from typing import Any

from fastcnn._figure import drawn
from fastcnn._names import readable
from fastcnn.cli._explained import Explained, Shown

__all__ = ["draw"]

_COLUMNS, _INCHES = 4, 3.0
_LONGEST = 40  # letters of a title


def draw(shown: Explained, path: str) -> None:
    """Write the picture of a photo to a file."""
    photo = Shown(readable(shown.name), f"as {readable(shown.model)} sees it", shown.photo)
    heat = shown.heat._replace(title=f"why {shown.heat.title}")
    pictures = [*([shown.filters] if shown.filters is not None else []), *shown.layers]
    rows = 1 + ceil(len(pictures) / _COLUMNS)

    def fill(figure: Any) -> None:
        grid = figure.add_gridspec(rows, _COLUMNS)
        _show(figure.add_subplot(grid[0, 0]), photo)
        _show(figure.add_subplot(grid[0, 1]), heat)
        _bars(figure.add_subplot(grid[0, 2:]), shown)
        for i, picture in enumerate(pictures):
            _show(figure.add_subplot(grid[1 + i // _COLUMNS, i % _COLUMNS]), picture)

    drawn("fastcnn explain -o", (_COLUMNS * _INCHES, rows * _INCHES), fill, path)


def _show(axes: Any, shown: Shown) -> None:
    axes.imshow(shown.picture, cmap="gray" if shown.picture.ndim == 2 else None, vmin=0, vmax=255)
    axes.set_axis_off()
    # Names may have what would be a formula.
    axes.set_title(f"{_short(shown.title)}\n{_short(shown.note)}", fontsize=8, parse_math=False)


def _bars(axes: Any, shown: Explained) -> None:
    best = shown.predictions[::-1]
    axes.barh(range(len(best)), [one.probability for one in best])
    axes.set_yticks(range(len(best)), [_short(one.label) for one in best], fontsize=9, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_title("probability", fontsize=9)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
