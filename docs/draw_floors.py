"""Draws floors.svg: the package's modules on their floors, and who imports whom.

The floors are the contract that import-linter checks (pyproject.toml), the arrows are the imports in the source, those
for annotations included. An arrow that other arrows imply is left out: where a imports b and b imports c, the
import of c by a is not drawn. Nor are arrows to the floors below csrc, which serve all others.

    python docs/draw_floors.py            # writes docs/floors.svg
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

import grimp
from importlinter import api

ROOT = Path(__file__).parents[1]
WIDTH, BOX, ROW, CHARACTER, GAP = 960, 30, 62, 8.4, 18  # in pixels; a character of the font is that wide

STYLE = """
  text { font: 14px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle; fill: #1f2933 }
  rect { fill: #e8f0fe; stroke: #4a6fa5; rx: 5 }
  path { fill: none; stroke: #8a97a8; stroke-width: 1.2; marker-end: url(#head) }
  marker path { fill: #8a97a8; stroke: none; marker-end: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb } rect { fill: #243b53; stroke: #9fb3c8 }
  }
"""


def floors() -> list[list[str]]:
    """The modules of each floor, the highest floor first, as pyproject.toml names them; csrc stands below kernels."""
    contract = api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"][0]
    found = [re.split(r"\s*[|:]\s*", floor) for floor in contract["layers"]]
    below_kernels = next(number for number, floor in enumerate(found, 1) if "kernels" in floor)
    return [*found[:below_kernels], ["csrc"], *found[below_kernels:]]


def imports() -> dict[str, set[str]]:
    """For each module or room of the package those that it imports; kernels call csrc."""
    graph = grimp.build_graph("fastcnn", exclude_type_checking_imports=False, cache_dir=None)
    found: dict[str, set[str]] = {"kernels": {"csrc"}}
    for module in graph.modules - {"fastcnn"}:
        room = module.split(".")[1]
        if module == f"fastcnn.{room}.__main__":  # a program above all floors
            continue
        others = {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) if "." in name}
        found.setdefault(room, set()).update(others - {room})
    return found


def needed(users: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others."""

    @cache
    def reached(module: str) -> frozenset[str]:
        direct = users.get(module, set())
        return frozenset(direct).union(*map(reached, direct))

    return sorted(
        (user, used)
        for user, direct in users.items()
        for used in direct
        if not any(used in reached(other) for other in direct - {used})
    )


def places(rows: Sequence[Sequence[str]], arrows: Sequence[tuple[str, str]]) -> dict[str, tuple[float, float, float]]:
    """Left edge, top edge and width of each module's box; a row is ordered by where its users stand."""
    place: dict[str, tuple[float, float, float]] = {}
    for number, row in enumerate(rows):

        def middle(module: str) -> tuple[float, str]:
            users = [place[user][0] + place[user][2] / 2 for user, used in arrows if used == module and user in place]
            return (sum(users) / len(users) if users else WIDTH / 2), module

        ordered = sorted(row, key=middle)
        widths = [len(module) * CHARACTER + 20 for module in ordered]
        spare = (WIDTH - sum(widths)) / (len(row) + 1)
        left = spare
        for module, width in zip(ordered, widths, strict=True):
            place[module] = left, number * ROW + GAP, width
            left += width + spare
    return place


def drawn() -> str:
    """The picture's text."""
    rows = floors()
    serving_all = set().union(*rows[rows.index(["csrc"]) + 1 :])
    arrows = [(user, used) for user, used in needed(imports()) if used not in serving_all]
    place = places(rows, arrows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {len(rows) * ROW}" role="img">',
        "<title>The modules of fastcnn: each imports only what stands below it</title>",
        f"<style>{STYLE}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker>',
    ]
    for user, used in arrows:
        (x, y, width), (to_x, to_y, to_width) = place[user], place[used]
        start, end = x + width / 2, to_x + to_width / 2
        half = (to_y - y - BOX) / 2
        lines.append(
            f'<path d="M{start:.0f} {y + BOX:.0f}C{start:.0f} {y + BOX + half:.0f} {end:.0f} {to_y - half:.0f} '
            f'{end:.0f} {to_y:.0f}"/>'
        )
    for module, (x, y, width) in place.items():
        lines.append(f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX}"/>')
        lines.append(f'<text x="{x + width / 2:.0f}" y="{y + 20:.0f}">{escape(module)}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    (ROOT / "docs" / "floors.svg").write_text(drawn())
