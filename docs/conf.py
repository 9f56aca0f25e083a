"""How Sphinx builds the pages of this folder: `nox -s docs`, or ``sphinx-build -W --keep-going docs docs/_build``.

Pages are Markdown. The API comes from docstrings, and the tutorials from examples/, whose scripts the build runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import fastcnn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "examples")]  # gallery.py, and the photos of the tutorials

project = "fastcnn"
author = copyright = "The fastcnn developers"
version = release = fastcnn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"
html_theme = "furo"
html_title = f"fastcnn {version}"
html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # docstrings tell types and shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template of classes lists them
numpydoc_attributes_as_param_list = True
# Unknown or unordered sections and parameters. tests/test_public_docstrings.py finds what is missing.
numpydoc_validation_checks = {"GL06", "GL07", "SS01", "PR02", "PR03", "PR10"}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(^|/)photos\.py$",
    "image_scrapers": ("matplotlib", "gallery.returned_figures"),
    "within_subsection_order": "gallery.place",
    "abort_on_example_error": True,
    "backreferences_dir": "tutorials/_used",
    "doc_module": ("fastcnn",),
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,  # how long the build's machine takes is nobody's concern
    "download_all_examples": False,
    "remove_config_comments": True,
}


# Pages outside of this folder, and the pages that include them.
MOVED = {"../CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}


def lead_to_pages(_app: Sphinx, *about: Any) -> None:
    """Let links to files outside of this folder lead to their pages; the text is the last argument, in a list."""
    text = about[-1]
    for target, page in MOVED.items():
        text[0] = text[0].replace(f"]({target})", f"]({page})")


def plain_signature(_app: Any, what: str, _name: str, _obj: Any, _options: Any, signature: str, _returns: Any) -> Any:
    """Show ``ReLU()``: `Layer` alone takes any arguments, for those of its kinds that have some."""
    return ("()", None) if what == "class" and signature == "(*args, **kwargs)" else None


def setup(app: Sphinx) -> None:
    """Connect with Sphinx. README.md begins no part of the gallery: examples/downstream is another package."""
    app.connect("builder-inited", lambda app: app.config.sphinx_gallery_conf.update(source_suffix={".rst": ""}), 11)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("source-read", lead_to_pages)
    app.connect("include-read", lead_to_pages)
