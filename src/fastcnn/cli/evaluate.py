"""`fastcnn evaluate`: how well a model names the photos of a folder, or label file, whose classes are known."""

from __future__ import annotations

import argparse
import html
import json
from pathlib import Path

from fastcnn._replace import check_writable
from fastcnn._table import as_page
from fastcnn.cli._models import (
    DEFAULT,
    LABEL_FILES,
    add_on_error,
    add_photo_options,
    add_threads,
    describe,
    photos_of,
    trained_model,
)
from fastcnn.cli._preflight import check_plot
from fastcnn.kernels._cpu import set_num_threads


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "FOLDER has one sub-folder of photos for each class, named after it; of one that is divided into train, val\n"
        f"and test, the last is taken. {LABEL_FILES}\n\n"
        "example: fastcnn evaluate --model flowers.safetensors more-flowers/"
    )
    parser.add_argument("folder", metavar="FOLDER-OR-CSV", help="folder with a sub-folder for each class, or .csv")
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="NAME-OR-FILE",
        help=f"a pretrained network, a saved model, ONNX, or a folder of timm or Hugging Face (default: {DEFAULT})",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the confusion matrix (needs matplotlib)")
    parser.add_argument("--page", metavar="FILE", help="write an HTML page of the report, with a reliability diagram")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_on_error(parser)
    add_photo_options(parser)
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    if options.plot:
        check_plot(options.plot)
    if options.page:
        check_writable(options.page, "--page")
    set_num_threads(options.threads)
    model = trained_model(options.model, options.output)
    describe(model, options)
    data, left_out = photos_of(options.folder, model, options, ("test", "validation"))
    report = model.evaluate(data)
    if options.plot:
        report.plot(options.plot)
    if options.page:
        heading = f"{options.model}: {options.folder}"
        parts = [f"<h1>{html.escape(heading)}</h1>", report._repr_html_()]
        Path(options.page).write_text(as_page(heading, parts), encoding="utf-8", errors="replace")
    found = {**report.to_dict(), "left_out": [photo._asdict() for photo in left_out]}
    print(json.dumps(found, indent=2) if options.json else report)
    return 0
