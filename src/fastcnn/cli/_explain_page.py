"""The page of `fastcnn explain`: one HTML file with all pictures in it, nothing to load from elsewhere."""

from __future__ import annotations

import base64
import html
import io

import numpy as np

from fastcnn._names import readable
from fastcnn._table import as_page
from fastcnn.cli._explained import Explained, Shown
from fastcnn.io._photo import import_pillow

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.layers { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { overflow-wrap: anywhere; font-size: 14px; }
img { display: block; width: 100%; image-rendering: pixelated; }
.photo, .filters { width: 18rem; } .photo img { image-rendering: auto; }
.note { opacity: .75; } td { padding: .1rem .6rem; }
meter { width: 12rem; }
"""


def page(shown: Explained) -> str:
    """Return the page of a photo."""
    classes = "".join(
        f"<tr><td>{_text(one.label)}</td><td><meter value='{one.probability:.4f}'></meter></td>"
        f"<td>{100 * one.probability:.1f} %</td></tr>"
        for one in shown.predictions
    )
    photo = Shown("what the network sees", f"{shown.photo.shape[1]}x{shown.photo.shape[0]} pixels", shown.photo)
    heat = shown.heat._replace(title=f"why {shown.heat.title}")
    parts = [
        f"<h1>{_text(readable(shown.name))}</h1><p class='note'>as {_text(readable(shown.model))} sees it</p>",
        f"<div class='row'>{_figure(photo, 'photo')}{_figure(heat, 'photo')}",
        f"<div><h2>Classes</h2><table>{classes}</table></div></div>",
    ]
    if shown.filters is not None:
        parts.append(f"<h2>Filters</h2><div class='row'>{_figure(shown.filters, 'filters')}</div>")
    if shown.layers:
        layers = "".join(_figure(layer, "") for layer in shown.layers)
        parts.append(f"<h2>Layers, in the order of computation</h2><div class='layers'>{layers}</div>")
    return as_page(f"{readable(shown.name)}: what a network sees", parts, _STYLE)


def _text(name: str) -> str:
    return html.escape(name)


def _figure(shown: Shown, kind: str) -> str:
    image = f'<img src="data:image/png;base64,{_png(shown.picture)}" alt="{_text(shown.title)}">'
    note = f"<span class='note'>{_text(shown.note)}</span>"
    return f"<figure class='{kind}'>{image}<figcaption>{_text(shown.title)}<br>{note}</figcaption></figure>"


def _png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    import_pillow().fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
