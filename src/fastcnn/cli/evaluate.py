"""`fastcnn evaluate`: how well a model names the photos of a folder whose classes are known."""

from __future__ import annotations

import argparse
import json

from fastcnn.cli._models import DEFAULT, add_on_error, add_threads, screen_photos, trained_model
from fastcnn.cli._preflight import check_plot
from fastcnn.kernels._cpu import set_num_threads
from fastcnn.training.data import Dataset
from fastcnn.training.prepare import prepare


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "FOLDER has one sub-folder of photos for each class, named after it; of one that is divided into train, val\n"
        "and test, the last is taken.\n\n"
        "example: fastcnn evaluate --model flowers.safetensors more-flowers/"
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder with a sub-folder for each class")
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="NAME-OR-FILE",
        help=f"a pretrained network or a saved model (default: {DEFAULT})",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the confusion matrix (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_on_error(parser)
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    if options.plot:
        check_plot(options.plot)
    set_num_threads(options.threads)
    model = trained_model(options.model)
    data = prepare(model, options.folder, adopt=False, parts=("test", "validation"))
    data, left_out = screen_photos(data, options, model.classes) if isinstance(data, Dataset) else (data, [])
    report = model.evaluate(data)
    if options.plot:
        report.plot(options.plot)
    found = {**report.to_dict(), "left_out": [photo._asdict() for photo in left_out]}
    print(json.dumps(found, indent=2) if options.json else report)
    return 0
