"""Which class is explained: its number, its name, or the most probable one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._arguments import as_int
from fastcnn._names import one_of
from fastcnn.network import Network

__all__ = ["class_number", "labels_of", "targets_of"]


def class_number(model: Network, label: Any, count: int, where: str) -> int:
    """Return the number of a class, from a number or a name.

    Raises
    ------
    ValueError, TypeError
        If the network has no class of that number or name; `where` begins the message.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> model = zoo.lenet(num_classes=2)
    >>> model.classes = ["cat", "dog"]
    >>> class_number(model, "dog", 2, ""), class_number(model, 0, 2, "")
    (1, 0)
    """
    names = model.classes
    if isinstance(label, str):
        if names is None or label not in names:
            expected = one_of(label, names) if names else "expected a number: the model's classes have no names"
            raise ValueError(f"{where}: label={label[:80]!r}, {expected}")
        return names.index(label)
    number = as_int(label, f"{where}: label", 0)
    if number >= count:
        raise ValueError(f"{where}: label={number}, expected a number from 0 to {count - 1}")
    return number


def labels_of(model: Network, probable: np.ndarray, label: Any, where: str) -> list[int]:
    """Return a class for each row of probabilities.

    Parameters
    ----------
    model : Network
    probable : ndarray (N, classes)
    label : int, str, sequence, or None
        The class of all, one for each, or the most probable.
    where : str
        Begins messages.
    """
    count = probable.shape[1]
    if label is None:
        return [int(number) for number in probable.argmax(axis=1)]
    if isinstance(label, str) or not isinstance(label, (Sequence, np.ndarray)):
        return [class_number(model, label, count, where)] * len(probable)
    if len(label) != len(probable):
        raise ValueError(f"{where}: {len(label)} labels, expected one, or one for each of {len(probable)} images")
    return [class_number(model, one, count, where) for one in label]


def targets_of(model: Network, batch: np.ndarray, label: Any, where: str) -> np.ndarray:
    """Return what to multiply the scores of each input with: 1 for the class, 0 for others (N, outputs).

    A network with one output says yes by a high score, and no by a low one.
    """
    probable = model.predict_proba(batch)
    numbers = labels_of(model, probable, label, where)
    outputs = int(np.prod(model(batch[:1]).shape[1:]))
    if outputs == 1:
        return np.array([[1 if number else -1] for number in numbers], np.float32)
    targets: np.ndarray = np.eye(outputs, dtype=np.float32)[numbers]
    return targets
