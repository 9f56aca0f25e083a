"""What Sphinx-Gallery is told of tutorials: their order, and pictures that methods such as `History.plot` return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

TUTORIALS = (
    "classify_photo.py",
    "how_classifiers_work.py",
    "train_on_photos.py",
    "transfer_learning.py",
    "digits.py",
    "grid_search.py",
    "quantize.py",
    "from_pytorch.py",
)


def place(script: str) -> int:
    """The place of a tutorial among them."""
    return TUTORIALS.index(Path(script).name)


def returned_figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures among the variables of a tutorial that are not pyplot's, each once."""
    known = block_vars.setdefault("figures", [])
    paths = []
    for value in block_vars["example_globals"].values():
        if isinstance(value, Figure) and not hasattr(value, "number") and value not in known:
            known.append(value)
            paths.append(next(block_vars["image_path_iterator"]))
            value.savefig(paths[-1])
    return figure_rst(paths, gallery_conf["src_dir"])
