"""The loop of `Model.fit`: steps in epochs, validation, the best weights, checkpoints, Ctrl-C.

A single step is trainer.py's, what it learns from loader.py's, settings options.py's, progress on the terminal
_progress.py's.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from fastcnn._progress import Progress
from fastcnn.errors import FastcnnWarning
from fastcnn.graph.ir import Graph
from fastcnn.network import Network
from fastcnn.training.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from fastcnn.training.data import ArraySource, Dataset, split
from fastcnn.training.features import features_of, split_model
from fastcnn.training.finite import LossNotFinite, not_finite, why_not_finite
from fastcnn.training.history import History
from fastcnn.training.identity import check_run, identity_of
from fastcnn.training.interrupt import Interrupt
from fastcnn.training.layouts import parts_of
from fastcnn.training.loader import Batch, Batches, IterableBatches
from fastcnn.training.losses import BinaryCrossEntropy, CrossEntropy, loss_of
from fastcnn.training.optimizers import Adam
from fastcnn.training.options import Options
from fastcnn.training.prepare import outputs_of, prepare
from fastcnn.training.tasks import ending_of, hits, scores_of, warn_of_ending
from fastcnn.training.trainer import Trainer

__all__ = ["Run", "fit"]


# What to learn from, and to validate with.
_Data: TypeAlias = "tuple[Dataset | IterableBatches, Dataset | None]"


@dataclass
class _Sums:
    """Of the epoch so far."""

    loss: float = 0.0
    hits: int = 0
    count: int = 0
    seconds: float = 0.0


@dataclass
class Run:
    """A training run, as callbacks see it.

    Attributes
    ----------
    model : Model
    trainer : Trainer
        While a frozen part's features are reused, it trains the rest of the network only.
    history : History
        With all epochs up to the one that has just ended.
    epoch : int
        Number of epochs done.
    """

    model: Network
    trainer: Trainer
    history: History
    epoch: int = 0
    _stopped: bool = False
    _learner: Any = None
    _step: int = 0
    _counted: int = 0  # the trainer's steps that the sums hold
    _sums: _Sums = field(default_factory=_Sums)
    _best: dict[str, np.ndarray] = field(default_factory=dict)

    def stop(self) -> None:
        """Let this epoch be the last."""
        self._stopped = True

    def _sync(self) -> None:
        """Let the model have the trainer's parameters."""
        self.trainer.sync()
        if self._learner is not self.model:
            self.model.load_state_dict(self._learner.state_dict(), strict=False)
            self.model.task = self._learner.task


def fit(model: Network, x: Any, y: Any, options: Options) -> History:
    """Train a model; see `Model.fit`."""
    data = prepare(model, x, y)
    if options.augment is not None and not isinstance(data, Dataset):
        raise ValueError("fit: augment is for arrays and photos; an iterable makes its batches itself")
    if options.validation is None and y is None and isinstance(x, (str, os.PathLike)):
        options = replace(options, validation=parts_of(x).get("validation"))
    data, validation = _validation(model, data, options)
    if options.epochs > 1:
        data = _with_cache(data) if isinstance(data, Dataset) else data
        validation = _with_cache(validation) if validation is not None else None
    identity = _identity(model, data, validation, options)
    saved = _resumed(model, identity, options)
    try:
        learner, features = _without_frozen_part(model, data, validation, options)
    except KeyboardInterrupt:
        return _interrupted(History(), 0, options, stacklevel=4)
    return _Loop(model, learner, (data, validation), features, options, saved, identity).train()


def _with_cache(data: Dataset) -> Dataset:
    """Let photos be decoded once; folders.py, which knows Pillow, is not imported for arrays."""
    if isinstance(data.source, ArraySource):
        return data
    from fastcnn.training.folders import with_cache

    return with_cache(data)


def _interrupted(history: History, epoch: int, options: Options, stacklevel: int) -> History:
    """Note in the history, and tell, that Ctrl-C has ended the training."""
    history.interrupted = True
    if options.raises:
        raise KeyboardInterrupt
    where = f"in epoch {min(epoch + 1, options.epochs)} of {options.epochs}"
    warnings.warn(f"fit: interrupted {where}; the model is as the last step left it", FastcnnWarning, stacklevel)
    return history


def _validation(
    model: Network, data: Dataset | IterableBatches, options: Options
) -> tuple[Dataset | IterableBatches, Dataset | None]:
    """Return what to learn from, and what to validate with."""
    given = options.validation
    if given is None:
        return data, None
    if isinstance(given, Real):
        if not isinstance(data, Dataset):
            raise ValueError(f"fit: validation={given}, but an iterable cannot be split: give (x, y)")
        learn, validate = split(data.labels, float(given), options.seed)
        return data.subset(learn), data.subset(validate)
    pair = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, None)
    validation = prepare(model, *pair, parts=("validation", "test"))
    if not isinstance(validation, Dataset):
        raise TypeError(f"fit: validation={type(given).__name__}, expected a share, a pair (x, y) or a folder")
    return data, validation


def _identity(
    model: Network, data: Dataset | IterableBatches, validation: Dataset | None, options: Options
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
    frozen = checkpoint.run.get("frozen")
    for path, layer in model.named_layers():  # parents first, as freezing goes down
        if frozen is not None and layer.is_frozen != (path in frozen):
            (layer.freeze if path in frozen else layer.thaw)()
    return checkpoint


def _without_frozen_part(
    model: Network, data: Dataset | IterableBatches, validation: Dataset | None, options: Options
) -> tuple[Network, _Data]:
    """Return the part of the network that learns, and features in place of inputs, where that is possible."""
    if options.augment is not None or not isinstance(data, Dataset) or options.epochs < 2:
        return model, (data, validation)
    parts = split_model(model, data.source.shape)
    if parts is None:
        return model, (data, validation)
    body, head = parts
    with Interrupt() as interrupt, interrupt.allowed():
        data = features_of(body, data, options.batch_size, options.workers, options.progress)
        if validation is not None:
            validation = features_of(body, validation, options.batch_size, options.workers, options.progress)
    return head, (data, validation)


class _Loop:
    """One run of `fit`."""

    def __init__(
        self,
        model: Network,
        learner: Network,
        given: _Data,
        features: _Data,
        options: Options,
        saved: Checkpoint | None,
        identity: Mapping[str, Any],
    ) -> None:
        self.options, self.given, self.identity = options, given, identity
        self.data, self.validation = data, validation = features
        self.optimizer = Adam() if options.optimizer is None else options.optimizer
        self.base_rate = self.optimizer.learning_rate
        trainer = self._trainer(learner)
        self.run = Run(model, trainer, History(), _learner=learner)
        self.counts_hits = isinstance(trainer.loss, (CrossEntropy, BinaryCrossEntropy))
        self.ending = ""
        if isinstance(data, Dataset):
            graph = learner.graph(data.source.shape)
            _warn_of_idle_parameters(learner, graph)
            self.ending = ending_of(graph, trainer.loss)
            warn_of_ending(graph, trainer.loss)
        self.batches = self._batches(learner, data)
        self.monitor = "loss" if validation is None else "validation_loss"
        self.best = options.keep_best if isinstance(options.keep_best, str) else self.monitor
        if self.best.endswith("accuracy") and not self.counts_hits:
            raise ValueError(
                f"fit: keep_best={self.best!r}, but {trainer.loss!r} counts none: expected 'validation_loss'"
            )
        if saved is not None:
            self._restore(saved)
        self._good = model.state_dict()  # its arrays are read-only: whoever changes one puts in another
        self._last: Batch

    def _trainer(self, learner: Network) -> Trainer:
        options = self.options
        return Trainer(
            learner,
            self.optimizer,
            options.loss,
            clip_norm=options.clip_norm,
            recompute=options.recompute,
            seed=options.seed,
        )

    def _batches(self, learner: Network, data: Dataset | IterableBatches) -> Batches | IterableBatches:
        if isinstance(data, IterableBatches):
            return data
        options = self.options
        return Batches(
            data,
            options.batch_size,
            outputs_of(learner, data.source.shape),
            augment=options.augment,
            seed=options.seed,
            workers=options.workers,
        )

    def train(self) -> History:
        """Train until the last epoch, until a callback or patience has had enough, or until Ctrl-C.

        Weights that are not finite are never what is left, nor in a checkpoint: the last good ones take their place.
        """
        run = self.run
        try:
            self._epochs()
        except LossNotFinite:
            run.model.load_state_dict(run._best or self._good)
            raise
        if self.options.keep_best and run._best:
            run.model.load_state_dict(run._best)
        elif self._is_spoilt():
            run.model.load_state_dict(self._good)
        return run.history

    def _epochs(self) -> None:
        run, options = self.run, self.options
        try:
            with Interrupt() as interrupt:
                while run.epoch < options.epochs and not run._stopped:
                    self._epoch(interrupt)
        except KeyboardInterrupt:
            if run.trainer.steps == run._counted:  # else a step is ahead of the sums: the last checkpoint stays
                run._sync()
                if not self._is_spoilt():
                    self._checkpoint()
            _interrupted(run.history, run.epoch, options, stacklevel=6)
        finally:
            run._sync()

    def _epoch(self, interrupt: Interrupt) -> None:
        run, sums = self.run, self.run._sums
        steps = len(self.batches) if isinstance(self.batches, Batches) or self.options.schedule is not None else None
        count = len(self.data) if isinstance(self.data, Dataset) else None
        with Progress(f"epoch {run.epoch + 1}/{self.options.epochs}", count, self.options.progress) as progress:
            progress.update(sums.count)
            batches = self.batches.epoch(run.epoch, run._step)
            try:
                while True:
                    start = time.perf_counter()
                    with interrupt.allowed():
                        batch = next(batches, None)
                    if batch is None:
                        break
                    self._step(batch, steps)
                    sums.seconds += time.perf_counter() - start
                    progress.update(len(batch.x), loss=sums.loss / sums.count, **self._accuracy())
                    self._checkpoint_within_epoch()
            finally:
                batches.close()  # type: ignore[attr-defined]
            if not sums.count:
                raise ValueError("fit: x yields no batches, expected at least one")
            run._sync()
            self._check_weights()
            with interrupt.allowed():
                scores = self._validate()
            self._end_epoch(scores)
            progress.show(**{k: run.history[k][-1] for k in ("loss", "accuracy", *scores) if k in run.history})

    def _step(self, batch: Batch, steps: int | None) -> None:
        run, sums = self.run, self.run._sums
        if self.options.schedule is not None and steps is not None:
            done, total = run.epoch * steps + run._step, self.options.epochs * steps
            run.trainer.learning_rate = self.base_rate * self.options.schedule(done, total, steps)
        loss = run.trainer.step(batch.x, batch.y)
        self._last = batch
        if not np.isfinite(loss):
            raise self._failure(f"the loss is {loss} in epoch {run.epoch + 1}, step {run._step + 1}")
        sums.loss += loss * len(batch.x)
        sums.hits += hits(run.trainer.loss, run.trainer.outputs, batch.y) if self.counts_hits else 0
        sums.count += len(batch.x)
        run._step, run._counted = run._step + 1, run.trainer.steps

    def _is_spoilt(self) -> bool:
        """Whether weights are not finite that were when the run began, or its last epoch ended."""
        return bool(set(not_finite(self.run.model.state_dict())).difference(not_finite(self._good)))

    def _check_weights(self) -> None:
        """Refuse weights that the last step has spoilt, though its loss was good."""
        if self._is_spoilt():
            raise self._failure(f"weights are not finite after epoch {self.run.epoch + 1}, step {self.run._step}")

    def _failure(self, what: str) -> LossNotFinite:
        run, trainer = self.run, self.run.trainer
        why = why_not_finite(self._last, trainer.loss, trainer.outputs.shape[1], self._good, trainer.learning_rate)
        return LossNotFinite(f"fit: {what}: {why}; the model is as it was {self._good_since()}", run.history)

    def _good_since(self) -> str:
        if self.run._best:
            return f"after epoch {self.run.history.best(self.monitor) + 1}, the best"
        return f"after epoch {self.run.epoch}" if self.run.epoch else "before"

    def _accuracy(self) -> dict[str, float]:
        sums = self.run._sums
        return {"accuracy": sums.hits / sums.count} if self.counts_hits else {}

    def _validate(self) -> dict[str, float]:
        """Return loss and accuracy on the validation data."""
        if self.validation is None:
            return {}
        loss, right, kind = 0.0, 0, self.run.trainer.loss
        batches = Batches(self.validation, self.options.batch_size, shuffle=False, workers=self.options.workers)
        for x, y in batches.epoch(0):
            scores = scores_of(self.run._learner(x), self.ending)
            loss += kind.value(scores, y) * len(x)
            right += hits(kind, scores, y) if self.counts_hits else 0
        count = len(self.validation)
        accuracy = {"validation_accuracy": right / count} if self.counts_hits else {}
        return {"validation_loss": loss / count, **accuracy}

    def _end_epoch(self, scores: Mapping[str, float]) -> None:
        run, options, sums = self.run, self.options, self.run._sums
        run.history.add(
            loss=sums.loss / sums.count,
            **self._accuracy(),
            **scores,
            learning_rate=run.trainer.learning_rate,
            seconds=sums.seconds,
            images_per_second=sums.count / max(sums.seconds, 1e-9),
        )
        run.epoch, run._step, run._sums = run.epoch + 1, 0, _Sums()
        self._good = run.model.state_dict()
        best = run.history.best(self.monitor)
        if options.keep_best and run.history.best(self.best) == run.epoch - 1:
            run._best = dict(self._good)
        if options.patience is not None and run.epoch - 1 - best >= options.patience:
            run.stop()
        before = _state_of(run.model)
        for callback in options.callbacks:
            callback(run)
        if run._learner is not run.model and _state_of(run.model) != before:
            self._join()
        self._checkpoint()

    def _join(self) -> None:
        """Train the whole network from now on, as a callback has thawed, frozen or changed a part of it."""
        run, state = self.run, self.run.trainer.state_dict()
        run.trainer, run._learner = self._trainer(run.model), run.model
        run.trainer.load_state_dict(state)
        self.data, self.validation = self.given
        self.batches = self._batches(run.model, self.data)

    # -- checkpoints ----------------------------------------------------------------------------------

    def _checkpoint_within_epoch(self) -> None:
        every = self.options.checkpoint_steps
        if every is not None and self.run._step % every == 0:
            self.run._sync()
            self._check_weights()
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.options.checkpoint is None:
            return
        run = self.run
        state = {
            **self.identity,
            "epoch": run.epoch,
            "step": run._step,
            "stopped": run._stopped,
            "frozen": [path for path, layer in run.model.named_layers() if layer.is_frozen],
            "sums": vars(run._sums),
            "history": run.history,
        }
        write_checkpoint(
            self.options.checkpoint, Checkpoint(run.model.state_dict(), run.trainer.state_dict(), run._best, state)
        )

    def _restore(self, saved: Checkpoint) -> None:
        run, state = self.run, saved.run
        run.trainer.load_state_dict(saved.trainer)
        run._counted = run.trainer.steps
        run.epoch, run._step, run._stopped = state["epoch"], state["step"], state["stopped"]
        run._sums, run.history, run._best = _Sums(**state["sums"]), History(state["history"]), saved.best


def _state_of(network: Network) -> tuple[list[bool], list[int]]:
    """Return what callbacks may have changed: which layers are frozen, and which arrays there are."""
    frozen = [layer.is_frozen for _, layer in network.named_layers()]
    return frozen, [id(array) for array in network.state_dict().values()]


def _warn_of_idle_parameters(network: Network, graph: Graph) -> None:
    """Warn of layers that were set, but that forward does not call."""
    idle = [name for name, _ in network.named_parameters() if name not in graph.constants]
    if idle:
        names = ", ".join(idle[:4]) + ", …" * (len(idle) > 4)
        text = f"fit: {type(network).__name__}.forward does not use {names}: they learn nothing, and are not saved"
        warnings.warn(text, FastcnnWarning, stacklevel=5)
