"""The loop of `Model.fit`: steps in epochs, validation, the best weights, checkpoints, Ctrl-C.

trainer.py runs a single step, loader.py makes its batch, options.py checks the settings, and begin.py prepares the run.
run.py is what callbacks see, and _progress.py shows progress.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from fastcnn._progress import Pace, Progress
from fastcnn.errors import FastcnnWarning
from fastcnn.graph.ir import Graph
from fastcnn.network import Network
from fastcnn.training.checkpoints import Checkpoint, write_checkpoint
from fastcnn.training.data import Dataset
from fastcnn.training.finite import LossNotFinite, not_finite, why_not_finite
from fastcnn.training.history import History
from fastcnn.training.interrupt import Interrupt
from fastcnn.training.learned import Learned
from fastcnn.training.loader import Batch, Batches, IterableBatches, with_updates
from fastcnn.training.losses import BinaryCrossEntropy, CrossEntropy
from fastcnn.training.optimizers import Adam
from fastcnn.training.options import Options
from fastcnn.training.prepare import outputs_of
from fastcnn.training.run import Run, Sums, interrupted
from fastcnn.training.sharded import ShardedTrainer
from fastcnn.training.tasks import ending_of, hits, scores_of, warn_of_ending
from fastcnn.training.trainer import Trainer

__all__ = ["Loop"]


# What to learn from, and to validate with.
Data: TypeAlias = "tuple[Dataset | IterableBatches, Dataset | IterableBatches | None]"


class Loop:
    """One run of `fit`."""

    def __init__(
        self,
        model: Network,
        learner: Network,
        given: Data,
        features: Data,
        options: Options,
        saved: Checkpoint | None,
        identity: Mapping[str, Any],
        learned: Learned | None = None,
    ) -> None:
        self.options, self.given, self.identity = options, given, identity
        self.data, self.validation = data, validation = features
        self.optimizer = Adam() if options.optimizer is None else options.optimizer
        self.base_rate = self.optimizer.learning_rate
        trainer = self._trainer(learner)
        self.first_epoch = 0 if learned is None else learned.resume(trainer)
        self.run = Run(model, trainer, History(), epochs=options.epochs, _learner=learner, _counted=trainer.steps)
        self._averaged: Network | None = None
        self._written = -np.inf  # when the last checkpoint was
        self.counts_hits = isinstance(trainer.loss, (CrossEntropy, BinaryCrossEntropy))
        self.ending = ""
        if isinstance(data, Dataset):
            graph = learner._training_graph(data.source.shape)
            _warn_of_idle_parameters(learner, graph)
            self.ending = ending_of(graph, trainer.loss)
            warn_of_ending(graph, trainer.loss)
        self.monitor = "loss" if validation is None else "validation_loss"
        self.best = options.keep_best if isinstance(options.keep_best, str) else self.monitor
        if self.best.endswith("accuracy") and not self.counts_hits:
            raise ValueError(
                f"fit: keep_best={self.best!r}, but {trainer.loss!r} counts none: expected 'validation_loss'"
            )
        if saved is not None:
            self._restore(saved)
        self.batches = self._batches(learner, data)
        self._good = model.state_dict()  # its arrays are read-only: whoever changes one puts in another
        self._last: Batch

    def _trainer(self, learner: Network) -> Trainer:
        options = self.options
        settings: dict[str, Any] = {
            "clip_norm": options.clip_norm,
            "recompute": options.recompute,
            "seed": options.seed,
            "ema": options.ema,
        }
        if options.shards is None:
            return Trainer(learner, self.optimizer, options.loss, **settings)
        settings |= {"shards": options.shards, "sync_batch_norm": options.sync_batch_norm}
        if options.distributed is None:
            return ShardedTrainer(learner, self.optimizer, options.loss, **settings)
        trainer: Trainer = options.distributed._trainer(learner, self.optimizer, options.loss, **settings)
        return trainer

    def _batches(self, learner: Network, data: Dataset | IterableBatches) -> Batches | IterableBatches:
        if isinstance(data, IterableBatches):
            return data
        options = self.options
        batches = Batches(
            data,
            options.batch_size,
            outputs_of(learner, data.source.shape),
            augment=options.augment,  # type: ignore[arg-type]  # options.py has made one of it
            seed=options.seed,
            first_epoch=self.first_epoch,
            workers=options.workers,
            shards=options.shards or 1,
        )
        if options.distributed is not None:
            batches = options.distributed._reads(self.run.trainer, batches)
        return batches

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
        elif self.options.ema is not None:
            run.model.load_state_dict(run._result())
        return run.history

    def _call(self, name: str) -> None:
        """Call the callbacks; plain functions are called after each epoch."""
        for callback in self.options.callbacks:
            call = getattr(callback, name, callback if name == "on_epoch" and callable(callback) else None)
            if call is not None:
                call(self.run)

    def _epochs(self) -> None:
        run, options = self.run, self.options
        self._pace = Pace(options.epochs, run.epoch + run._step / self._steps())
        try:
            with Interrupt() as interrupt:
                self._call("on_start")
                while run.epoch < options.epochs and not run._stopped:
                    self._epoch(interrupt)
        except KeyboardInterrupt:
            if run.trainer.steps == run._counted:  # otherwise the sums lack a step, and the last checkpoint stays
                run._sync()
                if self.options.checkpoint is not None and not self._is_spoilt():
                    self._checkpoint()
            interrupted(run.history, run.epoch, options, stacklevel=6)
        finally:
            run._sync()
            self._call("on_end")

    def _epoch(self, interrupt: Interrupt) -> None:
        run, sums = self.run, self.run._sums
        steps = len(self.batches) if isinstance(self.batches, Batches) or self.options.schedule is not None else None
        count = len(self.data) if isinstance(self.data, Dataset) else None
        title = f"epoch {run.epoch + 1}/{self.options.epochs}"
        with Progress(title, count, self.options.progress, lines=True, pace=self._pace, walks=run.epoch) as progress:
            progress.update(sums.count)
            batches = with_updates(self.batches.epoch(run.epoch, run._step), self.options.accumulate, run._step)
            try:
                while not run._stopped:
                    start = time.perf_counter()
                    with interrupt.allowed():
                        batch, update = next(batches, (None, False))
                    if batch is None:
                        break
                    self._step(batch, update, steps)
                    self._call("on_batch")
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

    def _step(self, batch: Batch, update: bool, steps: int | None) -> None:
        run, sums = self.run, self.run._sums
        if self.options.schedule is not None and steps is not None:
            done, total = run.epoch * steps + run._step, self.options.epochs * steps
            run.trainer.learning_rate = self.base_rate * self.options.schedule(done, total, steps)
        loss, labels = run.trainer._learn(batch, update)
        self._last, run.loss = batch, loss
        if not np.isfinite(loss):
            raise self._failure(f"the loss is {loss} in epoch {run.epoch + 1}, step {run._step + 1}", batch)
        sums.loss += loss * len(batch.x)
        sums.hits += hits(run.trainer.loss, run.trainer.outputs, labels) if self.counts_hits else 0
        sums.count += len(batch.x)
        run._step, run._counted = run._step + 1, run.trainer.steps

    def _steps(self) -> int:
        """Return the steps of an epoch; 1 where nobody can tell."""
        return len(self.batches) if isinstance(self.batches, Batches) else 1

    def _is_spoilt(self) -> bool:
        """Whether weights are not finite that were when the run began, or its last epoch ended."""
        state, good = self.run.model.state_dict(), self._good
        spoilt = not_finite({name: array for name, array in state.items() if array is not good.get(name)})
        return bool(spoilt) and not set(spoilt).issubset(not_finite(self._good))

    def _check_weights(self) -> None:
        """Refuse weights that the last step has spoilt, though its loss was good."""
        if self._is_spoilt():
            what = f"weights are not finite after epoch {self.run.epoch + 1}, step {self.run._step}"
            raise self._failure(what, self._last)

    def _failure(self, what: str, batch: Batch) -> LossNotFinite:
        run, trainer = self.run, self.run.trainer
        read = batch._replace(x=np.asarray(batch.x))
        why = why_not_finite(read, trainer.loss, trainer.outputs.shape[1], self._good, trainer.learning_rate)
        return LossNotFinite(f"fit: {what}: {why}; the model is as it was {self._good_since()}", run.history)

    def _good_since(self) -> str:
        if self.run._best:
            return f"after epoch {self.run.history.best(self.best) + 1}, the best"
        return f"after epoch {self.run.epoch}" if self.run.epoch else "before"

    def _accuracy(self) -> dict[str, float]:
        sums = self.run._sums
        return {"accuracy": sums.hits / sums.count} if self.counts_hits else {}

    def _validate(self) -> dict[str, float]:
        """Return loss and accuracy on the validation data."""
        if self.validation is None:
            return {}
        loss, right, kind = 0.0, 0, self.run.trainer.loss
        data, network, count = self.validation, self._shown(), 0
        batches: Batches | IterableBatches
        if isinstance(data, IterableBatches):
            batches = data
        else:
            batches = Batches(data, self.options.batch_size, shuffle=False, workers=self.options.workers)
        for x, y, _ in batches.epoch(self.run.epoch):
            scores = scores_of(network(x), self.ending)
            value = kind.value(scores, y)
            if not np.isfinite(value):
                raise self._failure(f"the validation loss is {value} after epoch {self.run.epoch + 1}", Batch(x, y))
            loss += value * len(x)
            right += hits(kind, scores, y) if self.counts_hits else 0
            count += len(x)
        if not count:
            raise ValueError("fit: validation yields no batches, expected at least one")
        accuracy = {"validation_accuracy": right / count} if self.counts_hits else {}
        return {"validation_loss": loss / count, **accuracy}

    def _shown(self) -> Network:
        """The network as it would be left: with the moving average, where there is one."""
        run = self.run
        averages = run.trainer.averages()
        if not averages:
            learner: Network = run._learner
            return learner
        if self._averaged is None:
            self._averaged = copy.deepcopy(run._learner)
        self._averaged.load_state_dict({**run._learner.state_dict(), **averages})
        return self._averaged

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
        run.epoch, run._step, run._sums = run.epoch + 1, 0, Sums()
        self._good = run._result()
        best = run.history.best(self.monitor)
        if options.keep_best and run.history.best(self.best) == run.epoch - 1:
            run._best = dict(self._good)  # no copy: its arrays are read-only, and changes replace them
        if options.patience is not None and run.epoch - 1 - best >= options.patience:
            run.stop()
        before = None if run._learner is run.model else _state_of(run.model)
        self._call("on_epoch")
        if before is not None and _state_of(run.model) != before:
            self._join()
        is_last = run._stopped or run.epoch >= options.epochs
        if is_last or time.monotonic() - self._written >= options.checkpoint_seconds:
            self._checkpoint()

    def _join(self) -> None:
        """Train all of the network from now on, as a callback has thawed, frozen or changed a part of it."""
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
            "first_epoch": self.first_epoch,
            "step": run._step,
            "stopped": run._stopped,
            "task": run.model.task,
            "frozen": [path for path, layer in run.model.named_layers() if layer.is_frozen],
            "sums": vars(run._sums),
            "history": run.history,
        }
        write_checkpoint(
            self.options.checkpoint, Checkpoint(run.model.state_dict(), run.trainer.state_dict(), run._best, state)
        )
        self._written = time.monotonic()

    def _restore(self, saved: Checkpoint) -> None:
        run, state = self.run, saved.run
        run.trainer.load_state_dict(saved.trainer)
        run._counted = run.trainer.steps
        self.first_epoch = state.get("first_epoch", 0)
        run.epoch, run._step, run._stopped = state["epoch"], state["step"], state["stopped"]
        run._sums, run.history, run._best = Sums(**state["sums"]), History(state["history"]), saved.best


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
