"""The page of `fastcnn check`: one HTML file with small copies of the photos in it, nothing to load from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from fastcnn._names import readable
from fastcnn._table import as_page
from fastcnn.errors import ImageError
from fastcnn.io._load import load_image
from fastcnn.io._photo import import_pillow
from fastcnn.training.photo_check import FolderReport

__all__ = ["page"]

_SHOWN = 100  # groups or photos of a kind
_SIDE = 120

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
figure { display: inline-block; margin: .3rem; vertical-align: top; width: 8rem; font-size: 12px; }
figure img { max-width: 8rem; } figcaption { overflow-wrap: anywhere; }
.group { border-top: 1px solid #ccc; } td { padding: 0 .5rem; }
.bar { background: #3b76b5; height: .8rem; }
"""


def page(report: FolderReport) -> str:
    """Return the page of a report."""
    parts = [f"<h1>{report.count} photos in {_text(report.folder)}</h1>", *_balance(report)]
    broken = [f"<li>{_text(path)}: {_text(reason)}</li>" for path, reason in report.broken]
    parts += [f"<h2>{len(broken)} cannot be read</h2><ul>", *broken, "</ul>"] if broken else []
    parts += _groups("In more than one of training, validation and test", report.leaks)
    parts += _groups("Of the same content in more than one class", report.contradictions)
    parts += _groups("With the same content", report.duplicates)
    parts += _groups("Look the same", report.near_duplicates)
    parts += _groups("Tiny", [report.tiny] if report.tiny else [])
    if not report.has_faults:
        parts.append("<p>No photo is broken, double, or in training and validation both.</p>")
    return as_page(f"Photos in {readable(report.folder)}", parts, _STYLE)


def _text(name: str) -> str:
    return html.escape(readable(name))


def _balance(report: FolderReport) -> list[str]:
    lines = []
    for part, classes in report.counts.items():
        most = max(classes.values(), default=1) or 1
        lines.append(f"<h2>Classes{f' of {_text(part)}' if part else ''}</h2><table>")
        lines += [
            f"<tr><td>{_text(name or 'none')}</td><td>{count}</td>"
            f'<td><div class="bar" style="width: {20 * count / most:.2f}rem"></div></td></tr>'
            for name, count in classes.items()
        ]
        lines.append("</table>")
    return lines


def _groups(title: str, groups: Sequence[Sequence[str]]) -> list[str]:
    if not groups:
        return []
    lines = [f"<h2>{title}: {len(groups)}</h2>"]
    for group in groups[:_SHOWN]:
        lines.append('<div class="group">' + "".join(map(_figure, group[:_SHOWN])) + "</div>")
    return lines + ([f"<p>… and {len(groups) - _SHOWN} more</p>"] if len(groups) > _SHOWN else [])


def _figure(path: str) -> str:
    image = f'<img src="data:image/jpeg;base64,{_small(path)}" alt="">'
    return f"<figure>{image}<figcaption>{_text(path)}</figcaption></figure>"


def _small(path: str) -> str:
    try:
        image = import_pillow().fromarray(load_image(path))
    except (ImageError, OSError):  # changed since it was checked
        return ""
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode("ascii")
