"""`fastcnn classify`: what photos show."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Generator
from typing import Any

from fastcnn._progress import Progress
from fastcnn.cli._arguments import whole
from fastcnn.cli._models import (
    DEFAULT,
    add_on_error,
    add_photo_options,
    add_ray,
    add_threads,
    check_ray,
    describe,
    trained_model,
)
from fastcnn.cli._stream import Names, Photo, batches
from fastcnn.kernels._cpu import set_num_threads
from fastcnn.model import Model
from fastcnn.training.answers import CSV_COLUMNS, answer_of, csv_rows, ways_of
from fastcnn.training.interrupt import Interrupt


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "Answers are printed as they are found; Ctrl-C keeps those that are.\n\n"
        "example: fastcnn classify --top 3 holiday.jpg pets/ 'scans/*.png'\n"
        "         find / -name '*.jpg' | fastcnn classify - --format csv > names.csv"
    )
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="image file, folder, glob pattern, or - for names on stdin"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="NAME-OR-FILE",
        help=f"a pretrained network, a saved model, ONNX, or a folder of timm or Hugging Face (default: {DEFAULT})",
    )
    parser.add_argument(
        "--top",
        type=whole(1),
        metavar="N",
        help="classes to name (default: 5; of a model of several labels, all above 50 %%)",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--format",
        choices=(*_PRINTERS, "parquet"),
        default="text",
        help="text, a JSON list, a JSON object a line, or a CSV row for each class named (default: text)",
    )
    parser.add_argument(
        "--results",
        metavar="FOLDER",
        help="with --ray: write files (--format jsonl, csv or parquet), and go on where an earlier call ended",
    )
    formats.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    add_on_error(parser, "go on with the others, or stop")
    add_photo_options(parser)
    add_ray(parser, "classify")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Classify the photos; 1 where some could not be read."""
    check_ray(options, "results")
    if (options.format == "parquet") > bool(options.results):
        raise ValueError("--format parquet: expected with --results, which names a folder")
    set_num_threads(options.threads)
    names = Names(options.photos)
    model = trained_model(options.model, options.output)
    describe(model, options)
    if options.results is not None:
        return _write(options, model, names)
    # How many photos are ready is chance, and must not decide about the last digits.
    model.reproducible = True
    printer = _PRINTERS[options.format]()
    failed = 0
    results = _results(model, names, options.top) if options.ray is None else _elsewhere(options, model, names)
    # Answers on a terminal show how far it is.
    wanted = False if names.known == 1 or sys.stdout.isatty() else None
    try:
        # Ctrl-C comes while an answer is computed: none is printed in part.
        with Progress("classifying", names.known, wanted, "photos") as progress, Interrupt() as interrupt:
            while True:
                with interrupt.allowed():
                    result = next(results, None)
                if result is None:
                    break
                if "error" in result:
                    failed += 1
                    print(f"fastcnn classify: {result['error']}", file=sys.stderr)
                printer.add(result)
                progress.update(1)
                if failed and options.on_error == "stop":
                    break
    finally:
        results.close()
        printer.end()
    return 1 if failed else 0


def _results(model: Model, names: Names, top: int | None) -> Generator[dict[str, Any], None, None]:
    """Yield the answer, or the error, for each photo."""
    load, join = ways_of(model)
    for batch in batches(names, load):
        contents = [photo.content for photo in batch if photo.error is None]
        answers = iter(model.predict_proba(join(contents)) if contents else ())
        for photo in batch:
            if photo.error is None:
                yield answer_of(model, photo.path, next(answers), top)
            else:
                yield {"path": photo.path, "error": photo.error}


def _known(names: Names) -> tuple[list[str], list[Photo]]:
    """Return the paths of all photos, and what cannot be one."""
    paths, wrong = [], []
    while (photo := names.next(wait=True)) is not None:
        if photo.error is None:
            paths.append(photo.path)
        else:
            wrong.append(photo)
    return paths, wrong


def _elsewhere(options: argparse.Namespace, model: Model, names: Names) -> Generator[dict[str, Any], None, None]:
    """Yield the answers that the processes of a cluster find."""
    from fastcnn.distributed import classify

    paths, wrong = _known(names)
    yield from ({"path": photo.path, "error": photo.error} for photo in wrong)
    if not paths:
        return
    for row in classify(paths, model, **_cluster(options)).iter_rows():
        if row["error"] is not None:
            yield {"path": row["path"], "error": row["error"]}
            continue
        columns = zip(row["indices"], row["labels"], row["probabilities"], strict=True)
        named = [{"index": int(i), "label": label, "probability": float(share)} for i, label, share in columns]
        yield {"path": row["path"], "predictions": named}


def _write(options: argparse.Namespace, model: Model, names: Names) -> int:
    """Let the processes of a cluster write their answers to files."""
    from fastcnn.distributed import classify

    if options.format in ("text", "json"):
        raise ValueError(f"--format {options.format}: expected jsonl, csv or parquet with --results")
    paths, wrong = _known(names)
    for photo in wrong:
        print(f"fastcnn classify: {photo.error}", file=sys.stderr)
    if paths:
        classify(paths, model, output=options.results, format=options.format, **_cluster(options))
    return 1 if wrong else 0


def _cluster(options: argparse.Namespace) -> dict[str, Any]:
    settings = {"top": options.top, "workers": options.workers, "threads": options.threads}
    return {**settings, "address": options.ray or None}


class _Text:
    """Prints answers for people."""

    def __init__(self) -> None:
        self._is_first = True

    def add(self, result: dict[str, Any]) -> None:
        """Print an answer; errors are on stderr."""
        if "error" in result:
            return
        lines = [f"{100 * entry['probability']:5.1f} %  {entry['label']}" for entry in result["predictions"]]
        lines = lines or ["no label above 50 %"]
        print("\n".join([*([] if self._is_first else [""]), result["path"], *lines]), flush=True)
        self._is_first = False

    def end(self) -> None:
        """Print what closes the list."""


class _Json(_Text):
    """Prints a JSON list, valid also where it is cut short."""

    def add(self, result: dict[str, Any]) -> None:
        """Print an item of the list."""
        text = json.dumps(result, indent=2).replace("\n", "\n  ")
        print(("[\n  " if self._is_first else ",\n  ") + text, end="", flush=True)
        self._is_first = False

    def end(self) -> None:
        """Close the list."""
        print("[]" if self._is_first else "\n]", flush=True)


class _JsonLines(_Text):
    """Prints a JSON object a line."""

    def add(self, result: dict[str, Any]) -> None:
        """Print a line."""
        print(json.dumps(result), flush=True)


class _Csv(_Text):
    """Prints a row for each class that is named, or one for an error, or for none."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        self._rows.writerow(CSV_COLUMNS)

    def add(self, result: dict[str, Any]) -> None:
        """Print the rows of a photo."""
        self._rows.writerows(csv_rows(result))
        sys.stdout.flush()


_PRINTERS = {"text": _Text, "json": _Json, "jsonl": _JsonLines, "csv": _Csv}
