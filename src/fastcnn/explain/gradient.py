"""Grad-CAM: the places of an image that speak for a class, by the gradient of the class's score.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017.

The gradient is a part of the network's graph, as in training: graph/autodiff.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.explain.places import as_map, enlarged, mixing_of, places_of
from fastcnn.explain.targets import targets_of
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node, Shape, with_outputs
from fastcnn.inside import View, as_name, inputs_of, value_called
from fastcnn.io.preprocess import image_shape
from fastcnn.network import Network
from fastcnn.ops.island import NoGradient
from fastcnn.training.losses import BinaryCrossEntropy, CrossEntropy
from fastcnn.training.tasks import without_ending

__all__ = ["grad_cam"]

_TARGET, _LOSS = "@target", "@loss"


def grad_cam(
    model: Network, image: Any, label: Any = None, *, layer: str | None = None, resize: bool = True
) -> np.ndarray:
    """Return a heat map of the places that speak for a class (Grad-CAM).

    The channels of a layer's maps are added up, each weighted by the mean of its gradient over all places. What speaks
    against the class is left out. Scores before a last softmax or sigmoid are what is differentiated.

    Parameters
    ----------
    model : Model
    image : photo, sequence of photos, or array_like
        As for `Model.feature_maps`.
    label : int, str or sequence, optional
        Number or name of the class; one for all images, or one for each. By default the most probable class of each.
    layer : str, optional
        The layer whose maps are taken, by a name that `Model.feature_maps` knows. By default it is the last one that
        has places. Of a transformer it is what goes into the last attention.
    resize : bool
        Enlarge the map to the size of an input. False gives it as coarse as the layer is.

    Returns
    -------
    ndarray (H, W) or (N, H, W), float32
        From 0 to 1, the strongest place. All zeros where nothing speaks for the class. It has the places of the
        network's input: the middle of a photo that `Model.preprocess` crops. One photo has (H, W).

    Raises
    ------
    ValueError
        If no layer has places, if the layer or the label is unknown, or if a layer behind it has no gradient.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> model = zoo.lenet(rng=0)
    >>> heat = grad_cam(model, np.random.default_rng(0).random((1, 28, 28)), label=3)
    >>> heat.shape, float(heat.min()) >= 0
    ((28, 28), True)
    """
    batch, is_single = inputs_of(model, image, "grad_cam")
    targets = targets_of(model, batch, label, "grad_cam")
    cam = _Cam(model, None if layer is None else as_name(layer, "grad_cam: layer"))
    maps = np.stack([cam(batch[i : i + 1], target) for i, target in enumerate(targets)])
    if resize:
        maps = enlarged(maps, image_shape(batch.shape[1:])[1:])
    return np.asarray(maps[0] if is_single else maps, np.float32)


class _Cam:
    """The heat map of single images; a plan is kept with the model."""

    def __init__(self, model: Network, layer: str | None) -> None:
        self._model, self._layer = model, layer
        self._view = View(model, self._graph)

    def __call__(self, image: np.ndarray, target: np.ndarray) -> np.ndarray:
        compiled = self._view.compiled(("cam", self._layer), image.shape)
        values, grad = compiled.plan.run([np.asarray(image, np.float32), np.ascontiguousarray(target[None])])
        places = places_of(values.shape, image_shape(image.shape[1:]))
        if places is None:
            raise ValueError(
                f"grad_cam: layer {self._layer!r} has values of shape {values.shape}, expected maps "
                "(N, channels, height, width) or tokens (N, tokens, channels)"
            )
        maps, slopes = as_map(values[0], places), as_map(grad[0], places)
        heat = np.maximum(np.tensordot(slopes.mean(axis=(1, 2)), maps, 1), 0)
        return np.asarray(heat / (heat.max() or 1), np.float32)

    def _graph(self, shape: tuple[int, ...]) -> Graph:
        """The network up to a layer's maps, and the gradient of one class's score by them, for one image."""
        graph = without_ending(without_ending(self._model._kernel_graph(shape), CrossEntropy()), BinaryCrossEntropy())
        (name,) = graph.inputs
        shapes: Mapping[str, Shape] = graph.infer({name: (1, *shape)})
        if self._layer is None:
            value = _last_with_places(graph, shapes, shape)
        else:
            value = value_called(graph, self._layer, "grad_cam: layer")
        scores, nodes = graph.outputs[0], list(graph.nodes)
        count = int(np.prod(shapes[scores]))
        if len(shapes[scores]) != 2:
            nodes.append(Node("Flatten", "@scores", (scores,), "@scores", {"axis": 1}))
            scores = "@scores"
        nodes.append(Node("LinearLoss", _LOSS, (scores, _TARGET), _LOSS, {}))
        inputs = {name: (1, *shape), _TARGET: (1, count)}
        step = Graph(nodes, dict(inputs), [_LOSS], graph.constants)
        try:
            step, grads, _ = differentiate(step, inputs, _LOSS, {value})
        except NoGradient as error:
            advice = "choose a layer behind it, or take occlusion"
            raise ValueError(f"grad_cam: {error.args[0]}, which the layers before it need: {advice}") from None
        if value not in grads:
            raise ValueError(f"grad_cam: the scores do not depend on layer {self._layer!r}")
        return with_outputs(step, [value, grads[value]])


def _last_with_places(graph: Graph, shapes: Mapping[str, Shape], shape: tuple[int, ...]) -> str:
    """Go back from the output to a layer that has places."""
    makers = {node.output: node for node in graph.nodes}
    image = image_shape(shape)
    node = makers.get(graph.outputs[0])
    while node is not None:
        places = places_of(shapes[node.output], image)
        if places is not None and not places.extra:
            return node.output
        if places is not None:  # a class token takes all of the gradient, behind the last attention
            return mixing_of(graph, shapes, node.output)
        node = makers.get(node.inputs[0])
    raise ValueError("grad_cam: no layer has places, expected convolutions or tokens; occlusion takes every network")
