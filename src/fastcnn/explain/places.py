"""Where the values of a layer stand in an image: maps in either order of axes, and tokens in a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from fastcnn.graph.ir import Graph, Shape

__all__ = ["Places", "as_map", "enlarged", "mixing_of", "places_of"]

_MIXING = ("Softmax", "Attention")


class Places(NamedTuple):
    """How the values of one image, without the batch axis, lie in a grid."""

    height: int
    width: int
    channels_last: bool
    extra: int  # tokens before those of places: a class token


def places_of(shape: Shape | None, image: Sequence[int]) -> Places | None:
    """Return how values lie in an image; None for values that have one place, or none.

    Parameters
    ----------
    shape : tuple of int
        Of the values of a batch.
    image : sequence of int
        Shape of an input, (channels, height, width).

    Examples
    --------
    >>> places_of((1, 64, 7, 7), (3, 224, 224))
    Places(height=7, width=7, channels_last=False, extra=0)
    >>> places_of((1, 197, 192), (3, 224, 224))
    Places(height=14, width=14, channels_last=True, extra=1)
    """
    if len(image) != 3 or shape is None or len(shape) not in (3, 4):
        return None
    if len(shape) == 4:
        for (height, width), last in ((shape[2:], False), (shape[1:3], True)):
            if _fits(height, width, image):
                return Places(height, width, last, 0)
        return None
    for extra in (0, 1):
        tokens = shape[1] - extra
        height = round(sqrt(max(tokens, 0) * image[1] / image[2]))
        if height > 0 and tokens % height == 0 and _fits(height, tokens // height, image):
            return Places(height, tokens // height, True, extra)
    return None


def _fits(height: int, width: int, image: Sequence[int]) -> bool:
    """Whether a grid of more than one place has the image's proportions; each side may be rounded."""
    _, rows, columns = image
    is_grid = height * width > 1 and height <= rows + 2 and width <= columns + 2
    return is_grid and abs(height * columns - width * rows) < rows + columns


def as_map(values: np.ndarray, places: Places) -> np.ndarray:
    """Return the values of one image as (channels, height, width).

    Examples
    --------
    >>> as_map(np.zeros((5, 8)), Places(2, 2, True, 1)).shape
    (8, 2, 2)
    """
    if not places.channels_last:
        return values
    grid = values[places.extra :].reshape(places.height, places.width, -1) if values.ndim == 2 else values
    return np.moveaxis(grid, -1, 0)


def mixing_of(graph: Graph, shapes: Mapping[str, Shape], tokens: str) -> str:
    """Return what goes into the last attention: its normalised tokens, or the tokens themselves."""
    last = max((i for i, node in enumerate(graph.nodes) if node.op in _MIXING), default=len(graph.nodes))
    before = [node for node in graph.nodes[:last] if shapes[node.output] == shapes[tokens]]
    normal = [node for node in before if node.op == "LayerNormalization"]
    return (normal or before)[-1].output if before else tokens


def enlarged(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return maps (..., h, w) at another size, by bilinear interpolation between the middles of pixels.

    Examples
    --------
    >>> enlarged(np.float32([[0, 1]]), (1, 4)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    rows, columns = (_weights(old, new) for old, new in zip(maps.shape[-2:], size, strict=True))
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _weights(old: int, new: int) -> np.ndarray:
    """Each row tells how much of the old places a new one takes: (new, old)."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(at.astype(int), old - 1)
    high, share = np.minimum(low + 1, old - 1), at - low
    weights = np.zeros((new, old))
    weights[np.arange(new), low] += 1 - share
    weights[np.arange(new), high] += share
    return weights
