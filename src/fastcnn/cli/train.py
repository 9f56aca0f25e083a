"""`fastcnn train`: a classifier from a folder of photos, or from a label file, without code."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from fastcnn import zoo
from fastcnn._replace import check_writable
from fastcnn.cli._arguments import number_above, share_of, whole
from fastcnn.cli._log import Log, logging_to
from fastcnn.cli._models import (
    LABEL_FILES,
    add_on_error,
    add_ray,
    add_resize,
    add_threads,
    check_ray,
    is_label_file,
    photos_of,
    resized,
)
from fastcnn.cli._preflight import check_format, check_plot, check_space
from fastcnn.cli._stop import stopping_at
from fastcnn.errors import FastcnnWarning
from fastcnn.kernels._cpu import set_num_threads
from fastcnn.model import Model
from fastcnn.model_format import suffix_of
from fastcnn.training.augment import Augment
from fastcnn.training.data import Dataset, split
from fastcnn.training.defaults import class_weight_for, epochs_for
from fastcnn.training.finite import LossNotFinite
from fastcnn.training.folders import class_folders, preprocess_for
from fastcnn.training.history import History
from fastcnn.training.interrupt import Interrupt
from fastcnn.training.layouts import parts_of
from fastcnn.training.optimizers import Adam
from fastcnn.training.prepare import names_of
from fastcnn.training.report import Report
from fastcnn.training.schedules import OneCycle
from fastcnn.training.screen import Unreadable, Use
from fastcnn.training.tables import known_data
from fastcnn.zoo.pretrained import DEFAULT as PRETRAINED
from fastcnn.zoo.pretrained import pretrained_names, start_for

if TYPE_CHECKING:
    from fastcnn.distributed import Ray

DEFAULT = "small_cnn"
_SIZE = 64  # of photos for it


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "FOLDER has one sub-folder of photos for each class, named after it; or it has train and val (and test),\n"
        f"which have these. {LABEL_FILES}\n\n"
        "With fewer than 5000 photos the last layer of a pretrained network learns, if its weights are installed.\n"
        "--pretrained, --network, --size or --grey say otherwise.\n\n"
        "example: fastcnn train flowers/ -o flowers.safetensors\n"
        "then:    fastcnn classify --model flowers.safetensors photo.jpg"
    )
    parser.add_argument("folder", metavar="FOLDER-OR-CSV", help="folder with a sub-folder for each class, or .csv")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="where to save the model: .onnx, else safetensors"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--pretrained",
        metavar="NAME",
        choices=pretrained_names(),
        help=f"begin with ImageNet weights: {', '.join(pretrained_names())} (default for few photos: {PRETRAINED}, "
        "where fastcnn[imagenet] is installed)",
    )
    source.add_argument(
        "--network",
        metavar="NAME",
        choices=zoo.names(),
        help=f"network of the zoo to train from scratch (default for many photos: {DEFAULT})",
    )
    parser.add_argument("--thaw", action="store_true", help="with --pretrained: train all layers, not only the last")
    parser.add_argument(
        "--size",
        type=whole(1, 10_000),
        metavar="N",
        help=f"pixels in height and width (default: {_SIZE} for {DEFAULT}, else the network's)",
    )
    parser.add_argument("--grey", action="store_true", help="train a network of one channel, for grey photos")
    add_resize(parser)
    parser.add_argument(
        "--epochs",
        type=whole(0),
        metavar="N",
        help="passes over the photos (default: 20; for few photos as many as make 400 steps, at most 200)",
    )
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="photos in a step (default: 32)")
    parser.add_argument(
        "--learning-rate",
        type=number_above(0),
        default=3e-3,
        metavar="R",
        help="of Adam, highest in the course of one cycle (default: 0.003)",
    )
    parser.add_argument(
        "--class-weight",
        choices=("auto", "balanced", "none"),
        default="auto",
        help="what photos count: by their class, so that each class counts the same, or alike (default: balanced where "
        "a class has more than three times the photos of another)",
    )
    parser.add_argument(
        "--validation",
        metavar="SHARE-OR-FOLDER",
        help="photos to examine the model on: a share, or another folder or label file (default: FOLDER/val, if there "
        "are FOLDER/train and FOLDER/val, else 0.2)",
    )
    parser.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="flip, crop, turn and colour photos at random (default: where more than the last layer is trained)",
    )
    parser.add_argument("--patience", type=whole(1), metavar="N", help="stop after N epochs without improvement")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of everything random (default: 0)")
    _add_outputs(parser)
    add_on_error(parser)
    add_ray(parser, "compute the shards of each batch")
    parser.add_argument(
        "--shards",
        type=whole(1),
        metavar="N",
        help="parts of a batch; any number of workers gives the same bits (default: 8 with --ray, else no parts)",
    )
    parser.add_argument(
        "--sync-batch-norm", action="store_true", help="let batch normalisation use the statistics of all shards"
    )
    add_threads(parser)
    parser.set_defaults(run=run)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", metavar="FILE", help="keep the state of the training here, after each epoch")
    parser.add_argument(
        "--checkpoint-seconds",
        type=number_above(0),
        default=0.0,
        metavar="S",
        help="keep it after an epoch only where the last is this old",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    parser.add_argument(
        "--allow-changed",
        default="",
        metavar="NAME[,NAME]",
        help="with --resume: what may differ from the run that the checkpoint is of, such as data,classes,schedule",
    )
    parser.add_argument(
        "--log", metavar="FILE", help="append what happens, as it happens, to a file: a line of JSON each time"
    )
    parser.add_argument("--stop-file", metavar="FILE", help="end as by Ctrl-C once this file is there")
    parser.add_argument("--plot", metavar="FILE", help="draw the confusion matrix (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace) -> int:
    """Train, save, report; 130 where Ctrl-C ended the training early: the model is then saved beside the output."""
    suffix_of(options.output, "--output")
    for option, path in (("-o", options.output), ("--checkpoint", options.checkpoint), ("--log", options.log)):
        if path is not None:
            check_writable(path, option)
    check_ray(options)
    if options.sync_batch_norm and options.shards is None and options.ray is None:
        raise ValueError("--sync-batch-norm: expected with --shards or --ray")
    if options.resume and options.checkpoint is None:
        raise ValueError("--resume: expected with --checkpoint, from which to go on")
    if options.checkpoint_seconds and options.checkpoint is None:
        raise ValueError("--checkpoint-seconds: expected with --checkpoint, which it is about")
    if options.validation is not None:
        share_of(options.validation)
    if options.plot:
        check_plot(options.plot)
    set_num_threads(options.threads)
    with logging_to(options.log) as log:
        return _train(options, log)


def _train(options: argparse.Namespace, log: Log) -> int:
    with stopping_at(options.stop_file):
        model, validate, history, left_out = _learned(options, log)
    saved = options.output
    with Interrupt():  # a first Ctrl-C waits until the file is written, else what was learned is lost
        if history.interrupted:
            saved = _save_beside(model, options.output)
        else:
            _save(model, saved)
    report = model.evaluate(validate, batch_size=options.batch_size)
    log.write("end", model=saved, interrupted=history.interrupted, report=report.to_dict())
    if options.plot:
        report.plot(options.plot)
    _tell(options, model, saved, history, report, left_out)
    return 130 if history.interrupted else 0


def _learned(options: argparse.Namespace, log: Log) -> tuple[Model, Dataset, History, list[Unreadable]]:
    """Return a model that has learned, the photos to examine it on, its history, and photos that cannot be read."""
    classes, count, several = _classes(options.folder)
    _choose_network(options, count)
    model = _network(options, classes, several)
    check_format(model, options.output)
    check_space(model, options.output, options.checkpoint)
    learn, validate, left_out = _photos(options, model)
    log.photos(classes, learn, validate, options.batch_size)
    _say(options, f"{len(learn)} photos to learn from, {len(validate)} to examine, of {len(classes)} classes")
    _choose_settings(options, learn)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fit: interrupted", FastcnnWarning)  # is told at the end
        try:
            history = _fit(options, model, learn, validate, log)
        except LossNotFinite as error:
            if error.history.epochs == 0:
                raise
            raise FloatingPointError(f"{error}; it is saved as {_save_beside(model, options.output)}") from error
    return model, validate, history, left_out


def _classes(path: str) -> tuple[list[str], int, bool]:
    """Return the names of all classes, the number of photos, and whether a photo may be of several classes."""
    if not is_label_file(path):
        photos = class_folders(path)
        return list(photos), sum(map(len, photos.values())), False
    known = known_data(path)
    return names_of(known), len(known.y), not isinstance(known.y, np.ndarray) or known.y.ndim == 2


def _say(options: argparse.Namespace, line: str) -> None:
    if line and not options.json:
        print(line, file=sys.stderr)


def _choose_network(options: argparse.Namespace, photos: int) -> None:
    """Settle which network learns, where nothing that tells is given."""
    if options.thaw and not options.pretrained:
        raise ValueError("--thaw: expected with --pretrained, which names the network")
    if not (options.pretrained or options.network or options.grey) and options.size is None:
        options.pretrained, line = start_for(photos)
        _say(options, line and f"{line} (--network {DEFAULT} begins from scratch)")
    if not options.pretrained:
        options.network = options.network or DEFAULT


def _choose_settings(options: argparse.Namespace, learn: Dataset) -> None:
    """Settle what follows from the photos to learn from, where it is not given."""
    if options.epochs is None:
        options.epochs = epochs_for(len(learn), options.batch_size)
    if options.class_weight == "auto":
        options.class_weight, line = class_weight_for(learn.labels)
        _say(options, line and f"{line} (--class-weight none: photos do)")
    elif options.class_weight == "none":
        options.class_weight = None


def _network(options: argparse.Namespace, classes: list[str], several: bool) -> Model:
    if len(classes) < 2:
        kind = "labels" if is_label_file(options.folder) else "sub-folders"
        raise ValueError(f"{options.folder}: one class only, {classes[0]!r}, expected at least two {kind}")
    if options.pretrained:
        if options.size is not None:
            raise ValueError(f"--size {options.size}: {options.pretrained} has a size already")
        if options.grey:
            raise ValueError(f"--grey: {options.pretrained} takes colours; give --network instead of --pretrained")
        model = zoo.load_pretrained(options.pretrained, len(classes), freeze=not options.thaw, rng=options.seed)
    else:
        channels = 1 if options.grey else 3
        settings: dict[str, Any] = {"num_classes": len(classes), "in_channels": channels, "rng": options.seed}
        if options.network == DEFAULT:
            settings["image_size"] = options.size or _SIZE
        model = zoo.build(options.network, **settings)
        if options.size is not None:
            model.input_shape = (channels, options.size, options.size)
        model.preprocess = preprocess_for(model.input_shape or ())
    if model.preprocess is not None:
        model.preprocess = resized(model.preprocess, options)
    model.classes = classes
    if several:
        model.task = "multi_label"
    return model


def _photos(options: argparse.Namespace, model: Model) -> tuple[Dataset, Dataset, list[Unreadable]]:
    """Return the photos to learn from, those to examine, and those that cannot be read."""
    given = options.validation
    if given is None:
        given = parts_of(options.folder).get("validation", "0.2")
    share = share_of(given)
    use = Use(_augment(options), share, options.seed)
    data, left_out = photos_of(options.folder, model, options, use=use)
    if share is None:
        others, more = photos_of(given, model, options, ("validation", "test"))
        return data, others, left_out + more
    learn, validate = split(data.labels, share, options.seed)
    return data.subset(learn), data.subset(validate), left_out


def _augment(options: argparse.Namespace) -> Augment | None:
    augments = options.augment
    if augments is None:
        augments = not options.pretrained or options.thaw
    return Augment() if augments else None


def _fit(options: argparse.Namespace, model: Model, learn: Dataset, validate: Dataset, log: Log) -> History:
    return model.fit(
        learn,
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=validate,
        optimizer=Adam(options.learning_rate),
        loss="binary_cross_entropy" if model.task == "multi_label" else "cross_entropy",
        class_weight=options.class_weight,
        schedule=OneCycle(),
        augment=_augment(options),
        patience=options.patience,
        callbacks=[log],
        keep_best=True,
        checkpoint=options.checkpoint,
        checkpoint_seconds=options.checkpoint_seconds,
        resume=options.resume,
        allow_changed=[name for name in options.allow_changed.split(",") if name],
        seed=options.seed,
        progress=False if options.json and not _is_terminal(sys.stderr) else None,
        shards=options.shards,
        sync_batch_norm=options.sync_batch_norm,
        distributed=_cluster(options),
    )


def _cluster(options: argparse.Namespace) -> Ray | None:
    """Who computes the shards, where it is not this process."""
    if options.ray is None:
        return None
    from fastcnn.distributed import Ray

    return Ray(options.workers or 1, threads=options.threads or 1, address=options.ray or None)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _save_beside(model: Model, output: str) -> str:
    """Save a model that is not finished under a name of its own: what is there already may be better."""
    path = Path(output)
    number, file = 1, path.with_name(f"{path.stem}-interrupted{path.suffix}")
    while file.exists():
        number += 1
        file = path.with_name(f"{path.stem}-interrupted-{number}{path.suffix}")
    _save(model, file)
    return str(file)


def _save(model: Model, path: str | Path) -> None:
    """Save a model; where its place cannot be written any more, in the folder for temporary files."""
    try:
        model.save(path)
    except OSError as error:
        elsewhere = _saved_elsewhere(model, Path(path).name)
        if elsewhere is None:
            raise
        raise OSError(f"{path}: {error.strerror or error}; the model is saved as {elsewhere}") from error


def _saved_elsewhere(model: Model, name: str) -> str | None:
    try:
        folder = tempfile.mkdtemp(prefix="fastcnn-")
    except OSError:
        return None
    try:
        model.save(file := os.path.join(folder, name))
    except OSError:
        os.rmdir(folder)
        return None
    return file


def _tell(
    options: argparse.Namespace,
    model: Model,
    saved: str,
    history: History,
    report: Report,
    left_out: Sequence[Unreadable],
) -> None:
    if history.interrupted:
        print(f"fastcnn train: interrupted after {history.epochs} epochs; saved as {saved}", file=sys.stderr)
    if options.json:
        print(
            json.dumps(
                {
                    "model": saved,
                    "network": options.pretrained or options.network,
                    "classes": model.classes,
                    "class_weight": options.class_weight or "none",
                    "interrupted": history.interrupted,
                    "history": history,
                    "report": report.to_dict(),
                    "left_out": [photo._asdict() for photo in left_out],
                },
                indent=2,
            )
        )
        return
    print(report)
    print(f"\nsaved {saved}; try: fastcnn classify --model {shlex.quote(saved)} PHOTO")
