"""`fastcnn quantize`: a model in 8 bits, calibrated with photos, and what that costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fastcnn._replace import check_writable, replacing
from fastcnn.cli._arguments import number_from, whole
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
from fastcnn.cli._preflight import check_format, check_plot
from fastcnn.kernels._cpu import set_num_threads
from fastcnn.model_format import suffix_of
from fastcnn.quantization.ranges import METHODS
from fastcnn.quantization.report import QuantizationReport

_TEXTS = (".json", ".txt")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "PHOTOS is a folder of typical photos, in sub-folders or not; some hundred are enough, and no labels are\n"
        "needed. --accuracy takes a folder with a sub-folder of photos for each class; of one that is divided into\n"
        f"train, val and test, the last is taken. {LABEL_FILES}\n\n"
        "example: fastcnn quantize flowers.safetensors flowers/train -o small.safetensors --accuracy flowers/val\n"
        "then:    fastcnn classify --model small.safetensors photo.jpg"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"a saved model, ONNX, a folder of timm or Hugging Face, or a pretrained network such as {DEFAULT}",
    )
    parser.add_argument(
        "photos", metavar="PHOTOS", help="folder of photos, or .csv, from which ranges of values are found"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="where to save the model: .onnx, else safetensors"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="minmax",
        help="the range that 8 bits stand for: of all values, of 99.99 percent, of the distribution, or of the least "
        "squared error (default: minmax)",
    )
    parser.add_argument(
        "--samples", type=whole(1), default=256, metavar="N", help="photos to take, from everywhere (default: 256)"
    )
    parser.add_argument(
        "--accuracy", metavar="FOLDER-OR-CSV", help="photos of known classes, to compare the accuracy with float32"
    )
    parser.add_argument(
        "--max-drop",
        type=number_from(0),
        metavar="POINTS",
        help="put the layers that 8 bits hurt most back to float32, until at most so many points of accuracy are lost; "
        "without --accuracy, points of agreement with float32",
    )
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="LAYER",
        help="a layer that stays float32, by name or a pattern such as 'layer4.*'; can be given several times",
    )
    parser.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report: .txt, .json, or a picture (needs matplotlib); can be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print the report as a JSON object")
    add_on_error(parser)
    add_photo_options(parser, chooses_output=False)
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Calibrate, save, and print what is lost."""
    suffix = suffix_of(options.output, "--output")
    check_writable(options.output, "-o")
    for path in options.report:
        _check_report(path)
    set_num_threads(options.threads)
    model = trained_model(options.model)
    describe(model, options)
    if model.input_shape is not None:
        check_format(model, options.output)
    validation = None
    if options.accuracy is not None:
        validation, _ = photos_of(options.accuracy, model, options, ("test", "validation"))
    small = model.quantize(
        options.photos,
        method=options.method,
        samples=options.samples,
        skip=options.skip,
        max_drop=options.max_drop,
        validation=validation,
        fuse_sums=suffix != ".onnx",  # ONNX Runtime rounds what it adds
        on_error=options.on_error,
        progress=False if options.json else None,
    )
    small.save(options.output)
    report = small.quantization
    assert report is not None
    for path in options.report:
        _write_report(report, path)
    print(json.dumps(report.to_dict(), indent=2) if options.json else report)
    return 0


def _check_report(path: str) -> None:
    """Find out before the calibration whether a report can be written."""
    if Path(path).suffix.lower() in _TEXTS:
        check_writable(path, "--report")
    else:
        check_plot(path, "--report")


def _write_report(report: QuantizationReport, path: str) -> None:
    suffix = Path(path).suffix.lower()
    if suffix not in _TEXTS:
        report.plot(path)
        return
    text = json.dumps(report.to_dict(), indent=2) if suffix == ".json" else str(report)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())
