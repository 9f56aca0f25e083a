"""The loop of `Model.fit`: steps in epochs, validation, the best weights, checkpoints, Ctrl-C.

A single step is trainer.py's, what it learns from loader.py's, settings options.py's, progress on the terminal
_progress.py's.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from fastcnn._progress import Progress
from fastcnn.errors import FastcnnWarning
from fastcnn.network import Network
from fastcnn.training.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from fastcnn.training.data import ArraySource, Dataset, split
from fastcnn.training.features import features_of, split_model
from fastcnn.training.history import History
from fastcnn.training.interrupt import Interrupt
from fastcnn.training.loader import Batch, Batches, IterableBatches
from fastcnn.training.losses import CrossEntropy
from fastcnn.training.optimizers import Adam
from fastcnn.training.options import Options
from fastcnn.training.prepare import outputs_of, prepare
from fastcnn.training.trainer import Trainer

__all__ = ["Run", "fit"]


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


def fit(model: Network, x: Any, y: Any, options: Options) -> History:
    """Train a model; see `Model.fit`."""
    data = prepare(model, x, y)
    if options.augment is not None and not isinstance(data, Dataset):
        raise ValueError("fit: augment is for arrays and photos; an iterable makes its batches itself")
    data, validation = _validation(model, data, options)
    if options.epochs > 1:
        data = _with_cache(data) if isinstance(data, Dataset) else data
        validation = _with_cache(validation) if validation is not None else None
    saved = _resumed(model, data, options)
    try:
        learner, data, validation = _without_frozen_part(model, data, validation, options)
    except KeyboardInterrupt:
        return _interrupted(History(), 0, options, stacklevel=4)
    return _Loop(model, learner, data, validation, options, saved).train()


def _with_cache(data: Dataset) -> Dataset:
    """Let photos be decoded once; folders.py, which knows Pillow, is not imported for arrays."""
    if isinstance(data.source, ArraySource):
        return data
    from fastcnn.training.folders import with_cache

    return with_cache(data)


def _interrupted(history: History, epoch: int, options: Options, stacklevel: int) -> History:
    """Note in the history, and tell, that Ctrl-C has ended the training."""
    history.interrupted = True
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
    validation = prepare(model, *pair)
    if not isinstance(validation, Dataset):
        raise TypeError(f"fit: validation={type(given).__name__}, expected a share, a pair (x, y) or a folder")
    return data, validation


def _resumed(model: Network, data: Dataset | IterableBatches, options: Options) -> Checkpoint | None:
    """Return the checkpoint to go on from, its parameters already in the model; None where there is none yet."""
    if not options.resume or not os.path.exists(options.checkpoint or ""):
        return None
    checkpoint = read_checkpoint(options.checkpoint or "")
    for name, now in _fixed_settings(data, options).items():
        if checkpoint.run.get(name) != now:
            raise ValueError(
                f"fit: {name}={now}, expected {checkpoint.run.get(name)}, with which {options.checkpoint} was begun"
            )
    model.load_state_dict(checkpoint.model)
    return checkpoint


def _fixed_settings(data: Dataset | IterableBatches, options: Options) -> dict[str, int]:
    """Return what must be the same for the whole of a run."""
    settings = {"seed": options.seed, "batch_size": options.batch_size}
    return {**settings, "inputs": len(data)} if isinstance(data, Dataset) else settings


def _without_frozen_part(
    model: Network, data: Dataset | IterableBatches, validation: Dataset | None, options: Options
) -> tuple[Network, Dataset | IterableBatches, Dataset | None]:
    """Return the part of the network that learns, and features in place of inputs, where that is possible."""
    if options.augment is not None or not isinstance(data, Dataset) or options.epochs < 2:
        return model, data, validation
    parts = split_model(model, data.source.shape)
    if parts is None:
        return model, data, validation
    body, head = parts
    with Interrupt() as interrupt, interrupt.allowed():
        data = features_of(body, data, options.batch_size, options.workers, options.progress)
        if validation is not None:
            validation = features_of(body, validation, options.batch_size, options.workers, options.progress)
    return head, data, validation


class _Loop:
    """One run of `fit`."""

    def __init__(
        self,
        model: Network,
        learner: Network,
        data: Dataset | IterableBatches,
        validation: Dataset | None,
        options: Options,
        saved: Checkpoint | None,
    ) -> None:
        self.options, self.data, self.validation = options, data, validation
        self.optimizer = Adam() if options.optimizer is None else options.optimizer
        self.base_rate = self.optimizer.learning_rate
        trainer = Trainer(
            learner,
            self.optimizer,
            options.loss,
            clip_norm=options.clip_norm,
            recompute=options.recompute,
            seed=options.seed,
        )
        self.run = Run(model, trainer, History(), _learner=learner)
        self.counts_hits = isinstance(trainer.loss, CrossEntropy)
        self.batches = self._batches(learner, data)
        self.monitor = "loss" if validation is None else "validation_loss"
        if saved is not None:
            self._restore(saved)

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
        """Train until the last epoch, until a callback or patience has had enough, or until Ctrl-C."""
        run, options = self.run, self.options
        try:
            with Interrupt() as interrupt:
                while run.epoch < options.epochs and not run._stopped:
                    self._epoch(interrupt)
        except KeyboardInterrupt:
            if run.trainer.steps == run._counted:  # else a step is ahead of the sums: the last checkpoint stays
                run._sync()
                self._checkpoint()
            _interrupted(run.history, run.epoch, options, stacklevel=5)
        finally:
            run._sync()
        if options.keep_best and run._best:
            run.model.load_state_dict(run._best)
        return run.history

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
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"fit: the loss is {loss} in epoch {run.epoch + 1}, step {run._step + 1}: the learning rate is too "
                "high, or inputs are not finite"
            )
        sums.loss += loss * len(batch.x)
        sums.hits += self._hits(run.trainer.outputs, batch.y)
        sums.count += len(batch.x)
        run._step, run._counted = run._step + 1, run.trainer.steps

    def _accuracy(self) -> dict[str, float]:
        sums = self.run._sums
        return {"accuracy": sums.hits / sums.count} if self.counts_hits else {}

    def _hits(self, scores: np.ndarray, y: np.ndarray) -> int:
        """Return how many classes are recognised."""
        if not self.counts_hits:
            return 0
        labels = y if y.ndim == 1 else y.argmax(axis=1)
        return int((scores.argmax(axis=1) == labels).sum())

    def _validate(self) -> dict[str, float]:
        """Return loss and accuracy on the validation data."""
        if self.validation is None:
            return {}
        loss, hits = 0.0, 0
        batches = Batches(self.validation, self.options.batch_size, shuffle=False, workers=self.options.workers)
        for x, y in batches.epoch(0):
            scores = self.run._learner(x)
            loss += self.run.trainer.loss.value(scores, y) * len(x)
            hits += self._hits(scores, y)
        count = len(self.validation)
        accuracy = {"validation_accuracy": hits / count} if self.counts_hits else {}
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
        best = run.history.best(self.monitor)
        if options.keep_best and best == run.epoch - 1:
            run._best = dict(run.model.state_dict())  # its arrays are read-only: whoever changes one puts in another
        if options.patience is not None and run.epoch - 1 - best >= options.patience:
            run.stop()
        for callback in options.callbacks:
            callback(run)
        self._checkpoint()

    # -- checkpoints ----------------------------------------------------------------------------------

    def _checkpoint_within_epoch(self) -> None:
        every = self.options.checkpoint_steps
        if every is not None and self.run._step % every == 0:
            self.run._sync()
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.options.checkpoint is None:
            return
        run = self.run
        state = {
            **_fixed_settings(self.data, self.options),
            "epoch": run.epoch,
            "step": run._step,
            "stopped": run._stopped,
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
