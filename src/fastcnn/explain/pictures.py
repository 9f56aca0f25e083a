"""Numbers as pictures: filters, maps side by side, and heat over a photo."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_real_array
from fastcnn._names import listed
from fastcnn.explain.places import enlarged
from fastcnn.inside import as_network, value_called
from fastcnn.network import Network

__all__ = ["coloured", "filters", "grey", "overlay", "tiled"]

# Colours of heat from 0 to 1. Their lightness grows evenly, so that they also tell the order without colours.
_COLOURS = np.array([(12, 7, 60), (95, 18, 120), (190, 55, 85), (245, 130, 35), (252, 250, 165)], np.float64)
_MIDDLE = 127.5  # the grey of a weight of 0


def filters(model: Network, layer: str | None = None) -> np.ndarray:
    """Return the filters of a convolution as pictures.

    Parameters
    ----------
    model : Model
    layer : str, optional
        Name of the convolution, as for `Model.feature_maps`; by default the first.

    Returns
    -------
    ndarray (filters, height, width, 3), uint8
        Zero is grey, and the largest weight of a filter, up or down, is white or black. Filters of three channels have
        colours, and others the mean over their channels.

    Raises
    ------
    ValueError
        If there is no convolution of that name, or its weights are computed.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> filters(zoo.resnet18(rng=0)).shape
    (64, 7, 7, 3)
    """
    as_network(model, "filters")
    graph = model._read(lambda: model._stored_graph(None))
    found = {
        node.output: node
        for node in graph.nodes
        if node.op.rpartition(":")[2] == "Conv" and node.inputs[1] in graph.constants
    }
    if layer is None and not found:
        raise ValueError(f"filters: {type(model).__name__} has no convolution with weights")
    name = next(iter(found)) if layer is None else value_called(graph, layer, "filters: layer")
    if name not in found:
        known = listed([node.name for node in found.values()])
        raise ValueError(f"filters: layer={layer!r} is no convolution with weights, expected one of {known}")
    weights = np.asarray(graph.constants[found[name].inputs[1]], np.float64)
    if weights.ndim != 4:
        raise ValueError(f"filters: the weights of {found[name].name!r} have shape {weights.shape}, expected four axes")
    if weights.shape[1] != 3:
        weights = weights.mean(axis=1, keepdims=True).repeat(3, axis=1)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    scaled = weights / np.where(largest > 0, largest, 1)
    pictures: np.ndarray = np.rint(_MIDDLE + _MIDDLE * scaled).astype(np.uint8).transpose(0, 2, 3, 1)
    return pictures


def overlay(pixels: ArrayLike, heat: ArrayLike, opacity: float = 0.6) -> np.ndarray:
    """Return a photo with a heat map over it.

    Parameters
    ----------
    pixels : array_like (H, W, 3) or (H, W, 1), uint8
        What the network sees of a photo: ``model.preprocess.pixels(photo)``.
    heat : array_like (h, w)
        As `grad_cam` or `occlusion` give it, of any size. Numbers below 0 count as 0, the largest as 1.
    opacity : float
        Of the strongest heat, from 0 to 1.

    Returns
    -------
    ndarray (H, W, 3), uint8

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> overlay(np.full((4, 4, 3), 200, np.uint8), [[0, 1], [0, 0]]).shape
    (4, 4, 3)
    """
    photo, values = as_real_array(pixels, "overlay: pixels"), as_real_array(heat, "overlay: heat")
    if photo.ndim != 3 or photo.shape[2] not in (1, 3) or values.ndim != 2:
        raise ValueError(
            f"overlay: pixels.shape={photo.shape}, heat.shape={values.shape}, expected (H, W, 3) and (h, w)"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"overlay: opacity={opacity}, expected a number from 0 to 1")
    strength = np.maximum(enlarged(values, photo.shape[:2]), 0)
    strength = strength / (strength.max() or 1)
    share = opacity * strength[..., None]
    mixed: np.ndarray = np.rint((1 - share) * photo + share * coloured(strength)).astype(np.uint8)
    return mixed


def coloured(values: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) uint8 of numbers from 0 to 1.

    Examples
    --------
    >>> coloured(np.array([0.0, 1.0])).tolist()
    [[12, 7, 60], [252, 250, 165]]
    """
    at = np.clip(values, 0, 1) * (len(_COLOURS) - 1)
    low = np.minimum(at.astype(int), len(_COLOURS) - 2)
    share = (at - low)[..., None]
    mixed: np.ndarray = np.rint((1 - share) * _COLOURS[low] + share * _COLOURS[low + 1]).astype(np.uint8)
    return mixed


def grey(values: np.ndarray) -> np.ndarray:
    """Return maps (..., h, w) in grey levels, uint8: of each map the smallest number black, the largest white.

    Examples
    --------
    >>> grey(np.float32([[-1, 3]])).tolist()
    [[0, 255]]
    """
    wide = np.nan_to_num(np.asarray(values, np.float64))
    low, high = wide.min(axis=(-2, -1), keepdims=True), wide.max(axis=(-2, -1), keepdims=True)
    levels: np.ndarray = np.rint(255 * (wide - low) / np.where(high > low, high - low, 1)).astype(np.uint8)
    return levels


def tiled(pictures: Sequence[np.ndarray] | np.ndarray, paper: int = 255) -> np.ndarray:
    """Return pictures (N, h, w) or (N, h, w, 3) side by side in one, a pixel apart.

    Examples
    --------
    >>> tiled(np.zeros((5, 4, 4), np.uint8)).shape
    (9, 14)
    """
    stack = np.asarray(pictures)
    count, height, width = stack.shape[:3]
    columns = ceil(sqrt(count * height / width))
    rows = ceil(count / columns)
    shape = (rows * (height + 1) - 1, columns * (width + 1) - 1, *stack.shape[3:])
    result = np.full(shape, paper, np.uint8)
    for i, picture in enumerate(stack):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        result[top : top + height, left : left + width] = picture
    return result
