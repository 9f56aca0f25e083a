"""`fastcnn classify`: what photos show."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastcnn._progress import walk
from fastcnn.cli._models import DEFAULT, add_photo_options, add_threads, describe, trained_model
from fastcnn.errors import ImageError
from fastcnn.io.image import find_images
from fastcnn.kernels._cpu import set_num_threads
from fastcnn.model import Model


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = "example: fastcnn classify --top 3 holiday.jpg pets/ 'scans/*.png'"
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image file, folder, or glob pattern")
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="NAME-OR-FILE",
        help=f"a pretrained network, a saved model or an ONNX file (default: {DEFAULT})",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to name (default: 5)")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    add_photo_options(parser)
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Classify the photos; 1 where some could not be read."""
    if options.top < 1:
        raise ValueError(f"--top {options.top}, expected at least 1")
    set_num_threads(options.threads)
    paths, missing = _expand(options.photos)
    model = trained_model(options.model)
    describe(model, options)
    results = missing + [_classify(model, path, options.top) for path in _progress(paths)]
    for result in results:
        if "error" in result:
            print(f"fastcnn classify: {result['error']}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        texts = [_as_text(result) for result in results if "error" not in result]
        print("\n\n".join(texts), end="\n" if texts else "")
    return 1 if any("error" in result for result in results) else 0


def _expand(patterns: list[str]) -> tuple[list[Path], list[dict[str, Any]]]:
    """The photos that the arguments stand for, and an error for each that stands for none."""
    paths: list[Path] = []
    missing: list[dict[str, Any]] = []
    for pattern in patterns:
        try:
            paths.extend(path for path in find_images([pattern]) if path not in paths)
        except (FileNotFoundError, ImageError) as error:
            missing.append({"path": pattern, "error": str(error)})
    return paths, missing


def _classify(model: Model, path: Path, top: int) -> dict[str, Any]:
    try:
        predictions = [asdict(prediction) for prediction in model.classify(path, top)]
    except (ImageError, OSError) as error:
        return {"path": str(path), "error": str(error)}
    return {"path": str(path), "predictions": predictions}


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{100 * entry['probability']:5.1f} %  {entry['label']}" for entry in result["predictions"]]
    return "\n".join([result["path"], *lines])


def _progress(paths: list[Path]) -> Iterable[Path]:
    """The paths, with a bar on a terminal where there are several."""
    return walk(paths, "classifying", None if len(paths) > 1 else False, "photos")
