"""How an `ImageClassifier` goes through its data: optimizer, batches and epochs, by name or by the number of inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastcnn._arguments import as_choice
from fastcnn.estimator_inputs import takes_rows
from fastcnn.training.defaults import FEW_ROWS_DECAY, STEPS, are_few_rows, epochs_for
from fastcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from fastcnn.training.schedules import Cosine, OneCycle, Schedule

__all__ = ["SCHEDULES", "Steps", "batch_size_of", "check_names", "optimizer_of", "steps_for"]

SCHEDULES: dict[str, Schedule | None] = {"constant": None, "cosine": Cosine(), "one_cycle": OneCycle()}
_OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": lambda rate: SGD(rate, momentum=0.9, nesterov=True),
    "auto": Adam,
}  # fmt: skip
_BATCH = 32


class Steps(NamedTuple):
    """What a training does at each step, and how often."""

    optimizer: Optimizer
    batch_size: int
    epochs: int


def check_names(optimizer: object, schedule: object) -> None:
    """Refuse names of optimizers and schedules that there are not.

    Raises
    ------
    ValueError, TypeError
        Naming those that there are.
    """
    as_choice(optimizer, "ImageClassifier: optimizer", _OPTIMIZERS)
    as_choice(schedule, "ImageClassifier: schedule", SCHEDULES)


def optimizer_of(name: str, learning_rate: float) -> Optimizer:
    """Return the optimizer of a name.

    Examples
    --------
    >>> type(optimizer_of("auto", 0.1)).__name__
    'Adam'
    """
    return _OPTIMIZERS[name](learning_rate)


def batch_size_of(given: int | None) -> int:
    """Return a batch size as given, or 32."""
    return _BATCH if given is None else given


def steps_for(classifier: Any, shape: tuple[int, ...], count: int) -> Steps:
    """Return the steps of an `ImageClassifier` for a number of inputs of a shape.

    Few rows of features are learned in steps on all of them, by AdamW with a weight decay of 1. A network, an
    optimizer, and what counts epochs or batches change that, if they are given.

    Raises
    ------
    ValueError
        If there is no optimizer of that name.

    Examples
    --------
    >>> import fastcnn as fc
    >>> steps = steps_for(fc.ImageClassifier(), (13,), 178)
    >>> steps.optimizer.weight_decay, steps.batch_size, steps.epochs
    (1.0, 178, 400)
    >>> steps_for(fc.ImageClassifier(), (1, 8, 8), 178)[1:]
    (32, 67)
    """
    rate, batch, epochs = classifier.learning_rate, classifier.batch_size, classifier.epochs
    is_free = classifier.optimizer == "auto" and all(given is None for given in (batch, epochs, classifier.patience))
    if is_free and takes_rows(classifier.network, shape) and are_few_rows(count):
        return Steps(AdamW(rate, weight_decay=FEW_ROWS_DECAY), count, STEPS)
    batch = batch_size_of(batch)
    return Steps(
        optimizer_of(classifier.optimizer, rate), batch, epochs_for(count, batch) if epochs is None else epochs
    )
