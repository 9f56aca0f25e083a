"""How a network classifies, step by step, on the reader's photo and with the reader's filter.

Each step is this library's own: convolution, ReLU, pooling, a linear layer and softmax. The linear layer
learns anew for each filter, from the project's photos.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn._web import Refused
from fastcnn.errors import ImageError
from fastcnn.io.image import Preprocess
from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from fastcnn.sequential import Sequential
from fastcnn.studio.listing import Listing
from fastcnn.studio.project import Project
from fastcnn.training.optimizers import Adam

__all__ = ["Lesson", "filter_of"]

SIDE = 26  # pixels: 24 after a filter of 3, 12 after pooling
_OF_EACH_CLASS, _OF_ALL = 30, 300  # photos that the linear layer learns from
_EPOCHS = 40
_LARGEST = 100.0  # a number of the filter
_SCALE = 1 / 255

_GREY = Preprocess((SIDE, SIDE), 1.0, "bilinear", (0.0,), (1.0,))


def filter_of(given: object) -> np.ndarray:
    """Return a filter as a client has sent it: three rows of three numbers.

    Raises
    ------
    Refused
        With status 400, if it is anything else.

    Examples
    --------
    >>> filter_of([[1, 0, -1]] * 3).shape
    (3, 3)
    """
    rows = given if isinstance(given, list) and len(given) == 3 else []
    numbers = [number for row in rows if isinstance(row, list) and len(row) == 3 for number in row]
    if len(numbers) != 9 or not all(type(n) in (int, float) and abs(n) <= _LARGEST for n in numbers):
        raise Refused(400, f"filter: expected three rows of three numbers from -{_LARGEST:g} to {_LARGEST:g}")
    return np.array(numbers, np.float32).reshape(3, 3)


class Lesson:
    """The small network of the page "How it works".

    Parameters
    ----------
    project : Project
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock = threading.Lock()
        self._known: tuple[str, np.ndarray, np.ndarray, list[str]] | None = None

    def explain(self, photo: Path, filter_: np.ndarray) -> dict[str, Any]:
        """Return the numbers of every step for a photo, up to pooling."""
        image = _grey(photo)
        filtered = F.conv2d(image, filter_[None, None])
        positive = F.relu(filtered)
        return {
            "numbers": image[0, 0].round().astype(int).tolist(),
            "filter": filter_.tolist(),
            "filtered": _rounded(filtered[0, 0]),
            "positive": _rounded(positive[0, 0]),
            "pooled": _rounded(F.max_pool2d(positive, 2)[0, 0]),
        }

    def decide(self, photo: Path, filter_: np.ndarray) -> dict[str, Any]:
        """Let the linear layer learn behind a filter, and return what it says of a photo; nothing for one class."""
        pooled = F.max_pool2d(F.relu(F.conv2d(_grey(photo), filter_[None, None])), 2)
        with self._lock:
            images, labels, classes = self._sample(self._project.listing())
        return _decide(images, labels, classes, filter_, pooled) if len(classes) > 1 else {}

    def _sample(self, listing: Listing) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Some photos of each class, small and grey."""
        if self._known is not None and self._known[0] == listing.version:
            return self._known[1:]
        counts = listing.counts
        classes = [label for label in listing.classes if counts[label]]
        most = min(_OF_EACH_CLASS, max(1, _OF_ALL // max(1, len(classes))))
        taken = dict.fromkeys(classes, 0)
        images, labels = [], []
        for photo in listing.photos.values():
            if taken[photo.label] == most or photo.part not in ("", "train"):
                continue
            try:
                images.append(_GREY(self._project.file(photo)))
            except (ImageError, OSError, Refused):
                continue
            taken[photo.label] += 1
            labels.append(classes.index(photo.label))
        found = np.concatenate([np.zeros((0, 1, SIDE, SIDE), np.float32), *images])
        self._known = listing.version, found, np.array(labels, np.int64), classes
        return self._known[1:]


def _grey(photo: Path) -> np.ndarray:
    """A photo, small and grey: (1, 1, side, side) from 0 to 255."""
    try:
        return _GREY(photo)
    except (ImageError, OSError) as error:
        raise Refused(415, f"photo: {error}") from error


def _decide(
    images: np.ndarray, labels: np.ndarray, classes: list[str], filter_: np.ndarray, pooled: np.ndarray
) -> dict[str, Any]:
    """Let the linear layer learn behind the filter, and return what it says of a photo."""
    side = (SIDE - 2) // 2
    linear = Linear(side * side, len(classes), rng=0)
    convolution = Conv2d(1, 1, 3, bias=False)
    convolution.weight = filter_[None, None] * _SCALE
    convolution.freeze()
    model = Sequential(convolution, ReLU(), MaxPool2d(2), Flatten(), linear)
    model.fit(images, labels, epochs=_EPOCHS, batch_size=32, optimizer=Adam(0.01), seed=0, progress=False)
    scores = F.linear(pooled.reshape(1, -1) * _SCALE, linear.weight, linear.bias)
    return {
        "classes": classes,
        "weights": [_rounded(row.reshape(side, side), 3) for row in np.asarray(linear.weight)],
        "bias": _rounded(np.asarray(linear.bias), 3),
        "scores": _rounded(scores[0], 3),
        "probabilities": _rounded(F.softmax(scores)[0], 4),
        "learned_from": len(images),
        "right": float((model(images).argmax(axis=1) == labels).mean()),
    }


def _rounded(values: np.ndarray, digits: int = 1) -> Any:
    return np.round(np.asarray(values, np.float64), digits).tolist()
