"""What an `ImageClassifier` is given, as data its network learns from: the axes of images, photos, and their scaling.

Conventions of scikit-learn are _sklearn.py's, reading photos training/folders.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.model import Model
from fastcnn.training.data import ArraySource, Source
from fastcnn.training.folders import PhotoSource, preprocess_for
from fastcnn.training.prepare import is_paths

__all__ = ["channels_first", "check_shape", "prepare_network", "source_for"]

_CHANNELS = (1, 3, 4)


def channels_first(x: np.ndarray, input_shape: Sequence[int] | None) -> np.ndarray:
    """Return images as (N, C, H, W), rows of features as they are.

    Raises
    ------
    ValueError
        If the number of axes, or of features, is another one.

    Examples
    --------
    >>> channels_first(np.zeros((2, 8, 8, 3)), None).shape, channels_first(np.zeros((2, 64)), (1, 8, 8)).shape
    ((2, 3, 8, 8), (2, 1, 8, 8))
    """
    if x.ndim == 2:
        if input_shape is None:
            return x
        shape = tuple(input_shape)
        if x.shape[1] != np.prod(shape):
            raise ValueError(f"X has {x.shape[1]} features, expected {int(np.prod(shape))} for input_shape={shape}")
        return x.reshape(-1, *shape)
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise ValueError(f"X.shape={x.shape}, expected (N, features), (N, H, W), (N, C, H, W) or (N, H, W, C)")
    channels_last = x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS
    return x.transpose(0, 3, 1, 2) if channels_last else x


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    """Refuse inputs of another shape than those that a classifier was fit on.

    Raises
    ------
    ValueError
        In scikit-learn's words, where the number of features differs.
    """
    features, count = int(np.prod(shape)), int(np.prod(expected))
    if features != count:
        raise ValueError(f"X has {features} features, but {name} is expecting {count} features as input.")
    if shape != expected:
        raise ValueError(f"X: inputs are {shape}, but {name} was fit on inputs of {expected}")


def prepare_network(model: Model, inputs: Any, classes: np.ndarray, takes_photos: bool) -> None:
    """Let a network hold what it needs to be used: names of classes, shape, scaling of numbers or preprocessing."""
    counted = classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes)))
    model.classes = None if counted else [str(name) for name in classes.tolist()]
    if takes_photos:
        if model.preprocess is None:
            model.preprocess = preprocess_for(model.input_shape or ())
        return
    model.input_shape = inputs.shape[1:]
    if inputs.dtype == np.uint8 and inputs.ndim == 4 and inputs.shape[1] == 3 and model.preprocess is None:
        from fastcnn.io.preprocess import Preprocess

        model.preprocess = Preprocess(inputs.shape[2:], 1.0, "bilinear", (0,) * 3, (1,) * 3)  # the network scales
    if model.scaling is None:
        axes = (0, *range(2, inputs.ndim))
        mean, deviation = (np.asarray(f(inputs, axis=axes, dtype=np.float64)) for f in (np.mean, np.std))
        # Below rounding, a feature is constant.
        deviation[deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-30)] = 1
        model.scaling = mean, deviation


def source_for(model: Model, inputs: Any, takes_photos: bool) -> Source:
    """Return inputs as the network takes them.

    Raises
    ------
    ValueError
        If they are photos where the network has learned from numbers, or numbers where it has learned from photos.
    """
    if not takes_photos and not is_paths(inputs):
        return ArraySource(inputs)
    if model.preprocess is None:
        raise ValueError("X holds files, expected arrays, as the classifier was fit on")
    return PhotoSource(_photos(inputs), model.preprocess)


def _photos(inputs: Any) -> list[Any]:
    if is_paths(inputs):
        return list(inputs)
    if inputs.dtype != np.uint8 or inputs.ndim != 4 or inputs.shape[1] != 3:
        raise ValueError(
            f"X.dtype={inputs.dtype}, X.shape={inputs.shape}, expected files, or uint8 (N, H, W, 3), for a network "
            "that takes photos"
        )
    return list(inputs.transpose(0, 2, 3, 1))
