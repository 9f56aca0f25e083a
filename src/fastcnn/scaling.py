"""Scaling of inputs as a part of the network: it is saved, exported and trained with, as any other layer.

Which numbers suit some data is estimator.py's business; how photos become numbers is io/preprocess.py's.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import functional
from fastcnn._arguments import as_real_array
from fastcnn.graph.ir import Graph, Node
from fastcnn.graph.trace import scope
from fastcnn.layers.arrays import Buffer
from fastcnn.layers.base import Layer

__all__ = ["as_inputs", "scale", "scaled_graph", "scaling_of", "set_scaling"]

MEAN, VARIANCE = "scaling_mean", "scaling_variance"


def scaling_of(layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean and deviation of each channel, (C,), or None."""
    if MEAN not in layer._buffers or VARIANCE not in layer._buffers:
        return None
    return getattr(layer, MEAN), np.sqrt(getattr(layer, VARIANCE).astype(np.float64))


def set_scaling(layer: Layer, value: tuple[ArrayLike, ArrayLike] | None, name: str) -> None:
    """Let a network scale its inputs, or not any more.

    Raises
    ------
    ValueError, TypeError
        If the value is no pair of (C,) numbers, or a deviation is not above 0.
    """
    if value is None:
        for buffer in (MEAN, VARIANCE):
            if buffer in layer._buffers:
                delattr(layer, buffer)
        return
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}.scaling={value!r}, expected a pair (mean, deviation), or None")
    mean, deviation = (as_real_array(part, f"{name}.scaling").astype(np.float64) for part in value)
    if mean.ndim != 1 or mean.shape != deviation.shape or not np.isfinite(mean).all() or not (deviation > 0).all():
        raise ValueError(
            f"{name}.scaling: shapes {mean.shape} and {deviation.shape}, expected two of (channels,), finite means and "
            "deviations above 0"
        )
    setattr(layer, MEAN, Buffer(mean))
    setattr(layer, VARIANCE, Buffer(deviation**2))


def scale(layer: Layer, x: Any) -> Any:
    """Return (x - mean) / deviation of each channel, while a network is traced."""
    with scope("scaling"):
        return functional.batch_norm(x, getattr(layer, MEAN), getattr(layer, VARIANCE), eps=0.0)


def scaled_graph(layer: Layer, graph: Graph) -> Graph:
    """Return a graph of one input with the scaling before all else."""
    ((name, _),) = graph.inputs.items()
    state = layer._stored_state()
    channels = state[MEAN].shape
    constants = {MEAN: state[MEAN], VARIANCE: state[VARIANCE]}
    constants |= {"scaling_ones": np.ones(channels, np.float32), "scaling_zeros": np.zeros(channels, np.float32)}
    node = Node("BatchNormalization", "scaling", (name, *_CONSTANTS), "scaling:0", {"epsilon": 0.0})
    nodes = [replace(old, inputs=tuple("scaling:0" if x == name else x for x in old.inputs)) for old in graph.nodes]
    return replace(graph, nodes=[node, *nodes], constants={**graph.constants, **constants})


_CONSTANTS = ("scaling_ones", "scaling_zeros", MEAN, VARIANCE)


def as_inputs(x: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """Return images in the axes that a network takes: of (N, H, W, C), (N, H, W) and rows, where no doubt is left.

    Parameters
    ----------
    x : ndarray
    shape : tuple of int, or None
        Of one input of the network.

    Examples
    --------
    >>> as_inputs(np.zeros((5, 32, 48, 3)), (3, 32, 48)).shape, as_inputs(np.zeros((5, 784)), (1, 28, 28)).shape
    ((5, 3, 32, 48), (5, 1, 28, 28))
    """
    if shape is None or len(shape) != 3 or x.shape[1:] == shape:
        return x
    channels, height, width = shape
    if x.shape[1:] == (height, width, channels):
        first: np.ndarray = x.transpose(0, 3, 1, 2)
        return first
    if (channels == 1 and x.shape[1:] == (height, width)) or x.shape[1:] == (prod(shape),):
        return x.reshape(len(x), *shape)
    return x
