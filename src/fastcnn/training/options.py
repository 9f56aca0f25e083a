"""The settings of `Model.fit`, checked. `Model.fit` documents them, loop.py applies them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fastcnn._arguments import as_choice, as_flag, as_float, as_int, as_seed
from fastcnn.training.augment import Augment
from fastcnn.training.augment_functions import as_augment
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.schedules import Schedule

__all__ = ["Options"]

# What may differ between the run that a checkpoint is of and the one that goes on from it, if it is allowed by name.
CHANGEABLE = (
    *("seed", "batch_size", "inputs", "classes", "data", "validation", "network", "preprocess", "optimizer", "loss"),
    *("schedule", "augment", "clip_norm", "accumulate", "ema", "shards", "sync_batch_norm"),
)
ON_ERROR = ("skip", "stop")
CALLS = ("on_start", "on_batch", "on_epoch", "on_end")
BEST = ("loss", "accuracy", "validation_loss", "validation_accuracy")
SHARDS = 8  # of a batch that several processes compute, unless a number is given


class Distributed(Protocol):
    """Where shards are computed, as `fastcnn.distributed.Ray` tells it."""

    def _trainer(self, model: Any, optimizer: Optimizer, loss: Any, *, shards: int, **settings: Any) -> Any:
        """Return a trainer whose shards are computed by others."""

    def _reads(self, trainer: Any, batches: Any) -> Any:
        """Return batches that others read, for `trainer`."""

    def _close(self) -> None:
        """End all that its trainers have begun."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keyword arguments of `Model.fit`, under their names."""

    epochs: int = 10
    batch_size: int = 32
    validation: Any = None
    optimizer: Optimizer | None = None
    loss: str | Loss | Callable[..., Any] = "cross_entropy"
    class_weight: Any = None
    sample_weight: Any = None
    schedule: Schedule | None = None
    augment: Augment | Callable[..., Any] | None = None
    callbacks: Sequence[Any] = ()
    patience: int | None = None
    keep_best: bool | str = False
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_steps: int | None = None
    checkpoint_seconds: float = 0.0
    resume: bool = False
    allow_changed: str | Sequence[str] = ()
    clip_norm: float | None = None
    accumulate: int = 1
    ema: float | None = None
    recompute: bool = False
    seed: int = 0
    workers: int | None = None
    progress: bool | None = None
    on_error: str = "skip"
    shards: int | None = None
    sync_batch_norm: bool = False
    distributed: Distributed | None = None
    continues: bool = True  # whether the running means stay, for a next training of the same model
    raises: bool = False  # whether Ctrl-C is raised, as around searches and pipelines, and not told

    def __post_init__(self) -> None:
        as_int(self.epochs, "fit: epochs", 0)
        as_int(self.batch_size, "fit: batch_size", 1)
        as_int(self.accumulate, "fit: accumulate", 1)
        as_seed(self.seed, "fit: seed")
        as_choice(self.on_error, "fit: on_error", ON_ERROR)
        for name, least in (("patience", 1), ("checkpoint_steps", 1), ("workers", 0), ("shards", 1)):
            if getattr(self, name) is not None:
                as_int(getattr(self, name), f"fit: {name}", least)
        for name in ("resume", "recompute", "sync_batch_norm"):
            as_flag(getattr(self, name), f"fit: {name}")
        if self.progress is not None:
            as_flag(self.progress, "fit: progress")
        if not isinstance(self.keep_best, (bool, np.bool_)):
            as_choice(self.keep_best, "fit: keep_best", BEST, ", True or False")
            if self.keep_best.startswith("validation") and self.validation is None:
                raise ValueError(f"fit: keep_best={self.keep_best!r}, but there is no validation")
        if self.schedule is not None and not callable(self.schedule):
            raise TypeError(f"fit: schedule={self.schedule!r}, expected a schedule such as Cosine()")
        object.__setattr__(self, "augment", as_augment(self.augment, "fit: augment"))
        if self.optimizer is not None and not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"fit: optimizer={self.optimizer!r}, expected an optimizer such as Adam(1e-3)")
        if self.distributed is not None:
            if not hasattr(self.distributed, "_trainer"):
                raise TypeError(f"fit: distributed={self.distributed!r}, expected fastcnn.distributed.Ray(workers=2)")
            if self.shards is None:
                object.__setattr__(self, "shards", SHARDS)
        if self.sync_batch_norm and self.shards is None:
            raise ValueError("fit: sync_batch_norm=True, but batches are not cut: expected with shards, or distributed")
        if not isinstance(self.callbacks, (tuple, list)):
            raise TypeError(f"fit: callbacks={self.callbacks!r}, expected a list of functions of one argument")
        for callback in self.callbacks:
            if not callable(callback) and not any(hasattr(callback, name) for name in CALLS):
                raise TypeError(
                    f"fit: callbacks has {callback!r}, expected functions of one argument, or objects with one of "
                    + ", ".join(CALLS)
                )
        allowed = (self.allow_changed,) if isinstance(self.allow_changed, str) else self.allow_changed
        if not isinstance(allowed, (tuple, list)):
            raise TypeError(f"fit: allow_changed={allowed!r}, expected some of {', '.join(CHANGEABLE)}")
        for name in allowed:
            as_choice(name, "fit: allow_changed", CHANGEABLE)
        object.__setattr__(self, "allow_changed", tuple(allowed))
        if allowed and not self.resume:
            raise ValueError(f"fit: allow_changed={allowed[0]!r}, but resume is not set")
        if self.resume and self.checkpoint is None:
            raise ValueError("fit: resume=True, but there is no checkpoint to resume from")
        if self.checkpoint_steps is not None and self.checkpoint is None:
            raise ValueError(f"fit: checkpoint_steps={self.checkpoint_steps} without checkpoint, expected a file")
        if as_float(self.checkpoint_seconds, "fit: checkpoint_seconds") < 0:
            raise ValueError(f"fit: checkpoint_seconds={self.checkpoint_seconds}, expected a number >= 0")
