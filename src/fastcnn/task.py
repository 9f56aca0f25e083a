"""What the outputs of a network stand for, and the probabilities that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcnn import functional
from fastcnn._arguments import as_choice

__all__ = ["Prediction", "TASKS", "as_task", "classes_of", "most_likely", "probabilities", "task_of"]

# One class of several; any number of labels; or yes or no, by one output.
TASKS = ("single_label", "multi_label", "binary")


@dataclass(frozen=True)
class Prediction:
    """One class that a network predicts for a photo.

    Parameters
    ----------
    index : int
        Number of the class.
    label : str
        Name of the class.
    probability : float
        Probability of the class, from 0 to 1.

    Examples
    --------
    >>> Prediction(281, "tabby", 0.75).label
    'tabby'
    """

    index: int
    label: str
    probability: float


def as_task(value: object, name: str) -> str | None:
    """Return one of `TASKS`, or None."""
    return None if value is None else as_choice(value, f"{name}.task", TASKS, ", or None")


def task_of(told: str | None, outputs: int, ending: str) -> str:
    """Return the task of a network.

    Parameters
    ----------
    told : str or None
        What the network says itself.
    outputs : int
    ending : str
        The function that the network ends in: "Softmax", "Sigmoid", or something else.

    Examples
    --------
    >>> task_of(None, 5, ""), task_of(None, 5, "Sigmoid"), task_of("binary", 1, "")
    ('single_label', 'multi_label', 'binary')
    """
    if outputs == 1:
        return "binary" if told == "binary" or ending == "Sigmoid" else "single_label"
    if told in (None, "binary"):
        return "multi_label" if ending == "Sigmoid" else "single_label"
    return str(told)


def classes_of(
    shape: Sequence[int], told: str | None, ending: str, classes: Sequence[str] | None, name: str
) -> tuple[str, int]:
    """Return the task of a network with outputs of `shape`, and how many classes or labels they stand for.

    Raises
    ------
    ValueError
        Where outputs stand for no classes, or not for those that `classes` names.

    Examples
    --------
    >>> classes_of((8, 1), "binary", "", ["no", "yes"], "Sequential")
    ('binary', 2)
    """
    if len(shape) < 2 or tuple(shape[2:]) not in ((), (1, 1)):
        raise ValueError(f"predict: the outputs are {shape}, expected (N, classes)")
    task = task_of(told, shape[1], ending)
    count = 2 if task == "binary" else shape[1]
    if count < 2 and task == "single_label":
        raise ValueError(
            f"predict: the outputs are {shape}, expected (N, classes), classes >= 2; a single output is for "
            f"sigmoid(model(x)), or set {name}.task = 'binary'"
        )
    if classes is not None and len(classes) != count:
        raise ValueError(f"predict: the network has {shape[1]} outputs, but {len(classes)} classes have names")
    return task, count


def probabilities(scores: np.ndarray, task: str, ending: str) -> np.ndarray:
    """Return probabilities (N, classes) of outputs (N, outputs); of one output, those of no and yes.

    Examples
    --------
    >>> probabilities(np.float32([[0.0]]), "binary", "").tolist()
    [[0.5, 0.5]]
    """
    if task == "single_label":
        softmax: np.ndarray = scores if ending == "Softmax" else functional.softmax(scores, dim=1)
        return softmax
    single: np.ndarray = scores if ending == "Sigmoid" else functional.sigmoid(scores)
    return np.concatenate([1 - single, single], axis=1) if task == "binary" else single


def most_likely(probable: np.ndarray, task: str | None, classes: Sequence[str] | None) -> np.ndarray:
    """Return the classes, or the labels, that probabilities (N, classes) stand for; see `Network.predict`.

    Examples
    --------
    >>> most_likely(np.float32([[0.8, 0.2]]), None, ["cat", "dog"]).tolist()
    ['cat']
    """
    if task == "multi_label":
        several: np.ndarray = probable > 0.5
        return several
    indices: np.ndarray = probable.argmax(axis=1)
    return indices if classes is None else np.array(classes)[indices]
