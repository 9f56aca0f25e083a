"""Augmentations of other libraries, and plain functions: on one image, (height, width, channels), as it is.

What this library changes by itself is augment.py's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.io._photo import import_pillow
from fastcnn.training.augment import Augment

__all__ = ["FunctionAugment", "as_augment"]


@dataclass(frozen=True)
class FunctionAugment(Augment):
    """A function of an image as an augmentation.

    Parameters
    ----------
    function : function
        Of an array (H, W, C), and of a `numpy.random.Generator` where it takes a second argument without a default;
        returns the like, of the same shape. Photos come as uint8, other images as float32. What albumentations and
        torchvision.transforms have composed is called as these libraries want it; their random numbers are their own.

    Examples
    --------
    >>> darker = FunctionAugment(lambda image: image // 2)
    >>> darker(np.full((1, 2, 2), 8, np.uint8), np.random.default_rng(0)).tolist()
    [[[4.0, 4.0], [4.0, 4.0]]]
    """

    function: Callable[..., Any] | None = None

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(flip=False, crop=1.0, rotation=0.0, colour=0.0)
        object.__setattr__(self, "function", function)

    def __call__(self, image: np.ndarray, rng: np.random.Generator | int) -> np.ndarray:
        """See `Augment.__call__`; here the image may be uint8."""
        assert self.function is not None
        given = np.ascontiguousarray(image.transpose(1, 2, 0))
        changed = _called(self.function, given, rng)
        if changed.ndim == 2 and given.shape[2] == 1:
            changed = changed[..., None]
        if changed.shape != given.shape:
            raise ValueError(f"augment: {_name(self.function)} returned {changed.shape}, expected {given.shape}")
        return np.ascontiguousarray(changed.transpose(2, 0, 1), np.float32)


def as_augment(augment: Any, name: str) -> Augment | None:
    """An augmentation of whatever is taken for one.

    Raises
    ------
    TypeError
        If it is none.
    """
    if augment is None or isinstance(augment, Augment):
        return augment
    if not callable(augment) or isinstance(augment, type):
        raise TypeError(f"{name}={augment!r}, expected an Augment, or a function of an image (H, W, C)")
    return FunctionAugment(augment)


def _called(function: Callable[..., Any], image: np.ndarray, rng: Any) -> np.ndarray:
    library = type(function).__module__.partition(".")[0]
    if library == "albumentations":
        return np.asarray(function(image=image)["image"])
    if library == "torchvision":
        pixels = image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)
        pillow = import_pillow()
        changed = function(pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
        array = np.asarray(changed)
        # A tensor has its channels first, and values from 0 to 1.
        return array if not hasattr(changed, "dtype") else _bytes(array.transpose(1, 2, 0))
    return np.asarray(function(image, rng) if _takes_two(function) else function(image))


def _bytes(array: np.ndarray) -> np.ndarray:
    return array * np.float32(255) if array.dtype.kind == "f" else array


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return sum(p.default is p.empty for p in positional) == 2


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
