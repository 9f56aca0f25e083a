"""What `fastcnn explain` shows of a photo: classes, heat, filters and the maps of layers, as pictures in arrays.

_explain_page.py makes a page of it, _explain_picture.py a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastcnn.explain import filters, grad_cam, occlusion, overlay
from fastcnn.explain.pictures import grey, tiled
from fastcnn.explain.places import as_map, places_of
from fastcnn.explain.targets import class_number
from fastcnn.graph.ir import Graph, Node
from fastcnn.inside import named_nodes
from fastcnn.io._fit import stretched
from fastcnn.io.preprocess import Preprocess
from fastcnn.model import Model
from fastcnn.task import Prediction

__all__ = ["Explained", "Shown", "explained"]

_MOST_MAPS = 16  # of a layer
_LARGEST_MAP = 96  # pixels of a side
_SHAPES_ONLY = ("Identity", "Dropout", "DropPath", "Reshape", "Transpose", "Flatten", "Slice", "Split", "Concat")


class Shown(NamedTuple):
    """A picture and what stands below it."""

    title: str
    note: str
    picture: np.ndarray  # (H, W) or (H, W, 3), uint8


class Explained(NamedTuple):
    """All that is shown of a photo."""

    name: str
    model: str
    photo: np.ndarray  # what the network sees of it, (H, W, 3) uint8
    predictions: list[Prediction]
    heat: Shown
    filters: Shown | None
    layers: list[Shown]


def explained(
    model: Model, name: str, photo: str, top: int, label: str | None, heat: str, layers: Sequence[str] | None
) -> Explained:
    """Gather what is shown of a photo.

    Parameters
    ----------
    model : Model
        With preprocessing.
    name : str
        What the user calls the model.
    photo : str
        A file.
    top : int
        Classes to name.
    label : str, optional
        Number or name of the class that heat is shown for.
    heat : {"grad-cam", "occlusion"}
    layers : sequence of str, optional
        Names of layers; by default one for each convolution, with the activation behind it, and other steps.
    """
    preprocess = model.preprocess
    if not isinstance(preprocess, Preprocess):
        raise ValueError("the model does not tell how photos become inputs (preprocess): give --mean, --std and --size")
    pixels = preprocess.pixels(photo)
    x = preprocess(photo)
    probable = model.predict_proba(x)[0]
    predictions = model._most_probable(probable, top)
    chosen = _label(model, label, len(probable), predictions[0].index)
    return Explained(
        name=photo,
        model=name,
        photo=pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2),
        predictions=predictions,
        heat=_heat(model, x, pixels, chosen, heat),
        filters=_filters(model),
        layers=_layers(model, x, layers),
    )


def _label(model: Model, label: str | None, count: int, best: int) -> int:
    if label is None:
        return best
    is_number = label.isdecimal() and label not in (model.classes or ())
    return class_number(model, int(label) if is_number else label, count, "--label")


def _heat(model: Model, x: np.ndarray, pixels: np.ndarray, label: int, way: str) -> Shown:
    title = (model.classes or {label: str(label)})[label]
    if way == "grad-cam":
        try:
            heat = grad_cam(model, x, label)[0]
            return Shown(title, "Grad-CAM: bright places speak for the class", overlay(pixels, heat))
        except ValueError as error:
            reason = str(error).removeprefix("grad_cam: ")
        note = f"occlusion, as Grad-CAM takes no network like this one: {reason}"
    else:
        note = "occlusion: the probability falls where bright places are hidden"
    return Shown(title, note, overlay(pixels, occlusion(model, x, label)[0]))


def _filters(model: Model) -> Shown | None:
    try:
        pictures = filters(model)
    except ValueError:  # the network has none
        return None
    return Shown("first filters", f"{len(pictures)} of {pictures.shape[1]}x{pictures.shape[2]}", tiled(pictures))


def _layers(model: Model, x: np.ndarray, names: Sequence[str] | None) -> list[Shown]:
    titles = {name: (name, "") for name in names} if names is not None else _steps(model._stored_graph(x.shape[1:]))
    if not titles:
        return []
    maps = model.feature_maps(x, list(titles))
    shown = [_layer(name, *titles[name], maps[name], x, names is not None) for name in titles]
    return [layer for layer in shown if layer is not None]


def _layer(name: str, title: str, end: str, values: np.ndarray, x: np.ndarray, is_wanted: bool) -> Shown | None:
    places = places_of(values.shape, x.shape[1:])
    if places is None:
        if is_wanted:
            raise ValueError(f"--layers: {name} has values of shape {values.shape}, expected maps or tokens")
        return None
    channels = np.ascontiguousarray(as_map(values[0], places))
    kept = [_small(channel) for channel in grey(channels[:_MOST_MAPS])]
    count = f"{len(channels)} maps" if len(channels) > 1 else "1 map"
    more = f", the first {_MOST_MAPS} shown" if len(channels) > _MOST_MAPS else ""
    return Shown(title, f"{end}{count} of {places.height}x{places.width}{more}", tiled(kept))


def _small(channel: np.ndarray) -> np.ndarray:
    height, width = channel.shape
    if max(height, width) <= _LARGEST_MAP:
        return channel
    scale = _LARGEST_MAP / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return stretched(channel[..., None].repeat(3, 2), (0, 0, width, height), size, "bilinear")[..., 0]


def _steps(graph: Graph) -> dict[str, tuple[str, str]]:
    """The layers to show, each with its title, and the activation behind it.

    Left out is what a normalisation or an activation changes at once.
    """
    readers: dict[str, list[Node]] = {}
    makers = {node.output: node for node in graph.nodes}
    for node in graph.nodes:
        for value in {*node.inputs}:
            readers.setdefault(value, []).append(node)
    titles: dict[str, tuple[str, str]] = {}
    for name, node in named_nodes(graph).items():
        if _kind(node) in _SHAPES_ONLY or (node.output in readers and all(map(_continues, readers[node.output]))):
            continue
        end = f"behind {_kind(node)}: " if _continues(node) else ""
        first = node
        while _continues(first) and first.inputs[0] in makers:
            first = makers[first.inputs[0]]
        titles[name] = (first.name, end) if first is not node else (name, "")
    return titles


def _continues(node: Node) -> bool:
    return node.kind.is_activation or _kind(node) in _ACTIVATIONS


# As ONNX calls them where no kernel is known yet.
_ACTIVATIONS = (
    *("BatchNormalization", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid"),
    *("Gelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "Erf"),
)


def _kind(node: Node) -> str:
    return node.op.rpartition(":")[2]
