"""Answers about photos: how photos reach a network, what it names, and rows of text for that.

An answer is a dict with "path", and "predictions" or "error".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fastcnn.io.preprocess import Pixels
from fastcnn.network import Network
from fastcnn.task import Prediction

__all__ = ["CSV_COLUMNS", "answer_of", "csv_rows", "named_classes", "ways_of"]

CSV_COLUMNS = ("path", "rank", "label", "probability", "index", "error")


def ways_of(model: Network) -> tuple[Callable[[Any], Any], Callable[[Sequence[Any]], Any]]:
    """Return how a photo is read, and how several become an input.

    Raises
    ------
    ValueError
        If the model does not tell.
    """
    preprocess = model.preprocess
    if preprocess is None:
        raise ValueError("the model does not tell how photos become inputs (preprocess): give --mean, --std and --size")
    if model._takes_pixels(preprocess):
        return preprocess.pixels, lambda contents: Pixels(np.stack(contents), preprocess)
    return preprocess, np.concatenate


def named_classes(model: Network, probabilities: np.ndarray, top: int | None) -> list[Prediction]:
    """Return the most probable classes, or the labels that a photo has, where there are several.

    Parameters
    ----------
    model : Network
    probabilities : ndarray (classes,)
    top : int or None
        Classes to name; by default 5, or all labels above one half.
    """
    count = 5 if top is None else top
    if model.task == "multi_label":
        given = int((probabilities > 0.5).sum())
        count = given if top is None else min(top, given)
    return model._most_probable(probabilities, count)


def answer_of(model: Network, path: str, probabilities: np.ndarray, top: int | None) -> dict[str, Any]:
    """Return the answer for a photo, with the classes that `named_classes` names."""
    named = named_classes(model, probabilities, top)
    return {"path": path, "predictions": [asdict(prediction) for prediction in named]}


def csv_rows(answer: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the rows of an answer: one for each class that is named, or one for an error, or for none.

    Examples
    --------
    >>> list(csv_rows({"path": "a.jpg", "error": "damaged"}))
    [['a.jpg', '', '', '', '', 'damaged']]
    """
    path = answer["path"]
    if "error" in answer:
        yield [path, "", "", "", "", answer["error"]]
    elif not answer["predictions"]:
        yield [path, "", "", "", "", ""]
    for rank, entry in enumerate(answer.get("predictions", ()), start=1):
        yield [path, rank, entry["label"], entry["probability"], entry["index"], ""]
