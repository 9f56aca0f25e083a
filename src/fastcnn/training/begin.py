"""What happens before the loop of `Model.fit`: data and validation are found, checkpoints read, and features of frozen
parts computed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any, TypeVar, cast

from fastcnn._replace import check_writable
from fastcnn.io._regular import open_regular
from fastcnn.network import Network
from fastcnn.training.checkpoints import Checkpoint, read_checkpoint
from fastcnn.training.data import ArraySource, Dataset, split
from fastcnn.training.features import are_kept, features_of, split_model
from fastcnn.training.history import History
from fastcnn.training.identity import check_run, identity_of
from fastcnn.training.interrupt import Interrupt
from fastcnn.training.layouts import parts_of
from fastcnn.training.learned import learned_of, remember
from fastcnn.training.loader import IterableBatches
from fastcnn.training.loop import Data, Loop
from fastcnn.training.losses import loss_of
from fastcnn.training.optimizers import Adam
from fastcnn.training.options import Options
from fastcnn.training.prepare import is_batch, outputs_of, prepare
from fastcnn.training.run import interrupted
from fastcnn.training.weights import class_weights, with_weights

__all__ = ["fit", "without_unreadable"]

T = TypeVar("T", bound="Dataset | IterableBatches")


def fit(model: Network, x: Any, y: Any, options: Options) -> History:
    """Train a model; see `Model.fit`."""
    model._begin_training()
    if options.checkpoint is not None:
        if options.resume and os.path.exists(options.checkpoint):
            open_regular(options.checkpoint).close()
        check_writable(options.checkpoint, "fit: checkpoint")
    data = without_unreadable(model, _weighted(model, prepare(model, x, y), options), options)
    if options.augment is not None and not isinstance(data, Dataset):
        raise ValueError("fit: augment is for arrays and photos; an iterable makes its batches itself")
    if options.validation is None and y is None and isinstance(x, (str, os.PathLike)):
        options = replace(options, validation=parts_of(x).get("validation"))
    data, validation = _validation(model, data, options)
    if options.epochs > 1:
        data = _with_cache(data) if isinstance(data, Dataset) else data
        validation = _with_cache(validation) if isinstance(validation, Dataset) else validation
    identity = _identity(model, data, validation, options)
    saved = _resumed(model, identity, options)
    try:
        learner, features = _without_frozen_part(model, data, validation, options)
    except KeyboardInterrupt:
        return interrupted(History(), 0, options, stacklevel=4)
    # No variable holds the state of the last training: its memory is free while this one runs.
    loop = Loop(
        model,
        learner,
        (data, validation),
        features,
        options,
        saved,
        identity,
        learned_of(model) if saved is None else None,
    )
    try:
        history = loop.train()
        remember(model, loop.run.trainer, loop.first_epoch + loop.run.epoch, options.continues)
    finally:
        if options.distributed is not None:
            options.distributed._close()
    return history


def without_unreadable(model: Network, data: T, options: Options, learns: bool = True) -> T:
    """Leave out the photos that cannot be read; screen.py, which knows Pillow, is not imported for arrays."""
    if not isinstance(data, Dataset) or isinstance(data.source, ArraySource):
        return data
    from fastcnn.training.screen import Use, readable

    use = Use()
    if learns:
        share = float(options.validation) if isinstance(options.validation, Real) else None
        use = Use(options.augment, share, options.seed)  # type: ignore[arg-type]  # options.py has made one of it
    return cast(T, readable(data, options.on_error, options.progress, model.classes, use))


def _weighted(model: Network, data: Dataset | IterableBatches, options: Options) -> Dataset | IterableBatches:
    """Let inputs count as the options tell."""
    if options.sample_weight is None and options.class_weight is None:
        return data
    if isinstance(data, Dataset):
        outputs = outputs_of(model, data.source.shape)
        return with_weights(data, options.sample_weight, options.class_weight, outputs, model.classes)
    if options.sample_weight is not None:
        raise ValueError("fit: sample_weight, but x is an iterable: let it yield (x, y, weights)")
    given = options.class_weight
    count = len(model.classes or (given if not isinstance(given, dict) else range(1 + max(map(int, given)))))
    return IterableBatches(data.batches, class_weights(given, count, model.classes))


def _with_cache(data: Dataset) -> Dataset:
    """Let photos be decoded once; folders.py, which knows Pillow, is not imported for arrays."""
    if isinstance(data.source, ArraySource):
        return data
    from fastcnn.training.folders import with_cache

    return with_cache(data)


def _validation(model: Network, data: Dataset | IterableBatches, options: Options) -> Data:
    """Return what to learn from, and what to validate with."""
    given = options.validation
    if given is None:
        return data, None
    if isinstance(given, Real):
        if not isinstance(data, Dataset):
            raise ValueError(f"fit: validation={given}, but an iterable cannot be split: give (x, y)")
        learn, validate = split(data.labels, float(given), options.seed)
        return data.subset(learn), data.subset(validate)
    pair = given if isinstance(given, (tuple, list)) and len(given) == 2 and not is_batch(given[0]) else (given, None)
    validation = without_unreadable(model, prepare(model, *pair, parts=("validation", "test")), options, False)
    return data, validation


def _identity(
    model: Network, data: Dataset | IterableBatches, validation: Dataset | IterableBatches | None, options: Options
) -> dict[str, Any]:
    """Return what a checkpoint keeps of the run, where there is one."""
    if options.checkpoint is None:
        return {}
    return identity_of(model, data, validation, options, options.optimizer or Adam(), loss_of(options.loss))


def _resumed(model: Network, identity: Mapping[str, Any], options: Options) -> Checkpoint | None:
    """Return the checkpoint to go on from, its parameters already in the model; None where there is none yet."""
    if not options.resume or not os.path.exists(options.checkpoint or ""):
        return None
    checkpoint = read_checkpoint(options.checkpoint or "")
    check_run(checkpoint.run, identity, options.checkpoint, options.allow_changed)
    model.load_state_dict(checkpoint.model)
    model.task = checkpoint.run.get("task", model.task)  # no step may be left that would tell it
    frozen = checkpoint.run.get("frozen")
    for path, layer in model.named_layers():  # parents first, as freezing goes down
        if frozen is not None and layer.is_frozen != (path in frozen):
            (layer.freeze if path in frozen else layer.thaw)()
    return checkpoint


def _without_frozen_part(
    model: Network, data: Dataset | IterableBatches, validation: Dataset | IterableBatches | None, options: Options
) -> tuple[Network, Data]:
    """Return the part of the network that learns, and features in place of inputs, where that is possible."""
    if options.augment is not None or not isinstance(data, Dataset) or options.epochs < 2:
        return model, (data, validation)
    parts = split_model(model, data.source.shape)
    if parts is None or isinstance(validation, IterableBatches):
        return model, (data, validation)
    body, head = parts
    if not are_kept(body, data):
        return model, (data, validation)
    with Interrupt() as interrupt, interrupt.allowed():
        data = features_of(body, data, options.batch_size, options.workers, options.progress)
        if validation is not None:
            validation = features_of(body, validation, options.batch_size, options.workers, options.progress)
    return head, (data, validation)
