"""One photo as a trained model sees it: its classes, the heat map over it, and what each layer computes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from fastcnn import explain
from fastcnn._web import Refused
from fastcnn.explain.pictures import coloured, grey
from fastcnn.io.image import Preprocess
from fastcnn.model import Model
from fastcnn.studio.thumbnails import as_jpeg, as_png

__all__ = ["layer_pictures", "layers_shown", "look"]

_MOST_LAYERS = 28  # on the page
_MAPS = 12  # of a layer
_FILTERS = 64
_ENDS = ("Conv", "MaxPool", "AveragePool")
_ACTS = ("Relu", "Clip", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu", "Mul")


def look(model: Model, photo: Any, label: str | None) -> dict[str, Any]:
    """Return the part of a photo that a model sees, its most probable classes, and where that shows.

    Parameters
    ----------
    model : Model
    photo : whatever `Model.classify` takes
    label : str, optional
        The class that the heat map is for; by default the most probable one.
    """
    top = model.classify(photo, top=10)
    shown = label if label is not None else top[0].label
    if shown not in (model.classes or ()):
        raise Refused(400, f"label {shown[:60]!r}: is none of the model's classes")
    pixels = _seen(model, photo)
    heat = explain.grad_cam(model, photo, shown)
    # Where there is no heat the photo shows through.
    layer = np.dstack([coloured(heat), np.rint(255 * heat).astype(np.uint8)])
    return {
        "image": _as_address(as_jpeg(pixels), "jpeg"),
        "heat": _as_address(as_png(layer), "png"),
        "label": shown,
        "strongest": [int(place) for place in np.unravel_index(int(heat.argmax()), heat.shape)],
        "size": list(heat.shape),
        "top": [{"label": p.label, "probability": p.probability} for p in top],
    }


def _seen(model: Model, photo: Any) -> np.ndarray:
    preprocess = model.preprocess
    if not isinstance(preprocess, Preprocess):
        raise Refused(409, "run: its model does not say how it sees photos")
    pixels = np.asarray(preprocess.pixels(photo))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _as_address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def layers_shown(model: Model) -> list[dict[str, Any]]:
    """Return the layers that a page shows, from the first to the last: those that filter, activate or pool.

    Of a deep network some are left out, evenly.
    """
    found = [
        {"name": layer.name, "kind": layer.op, "shape": list(layer.shape[1:])}
        for layer in explain.layers(model)
        if layer.shape is not None and len(layer.shape) == 4 and min(layer.shape[2:]) > 1
    ]
    kinds = _ENDS + _ACTS if len(found) <= _MOST_LAYERS else _ENDS
    found = [layer for layer in found if layer["kind"] in kinds]
    if len(found) > _MOST_LAYERS:
        found = [found[i] for i in np.linspace(0, len(found) - 1, _MOST_LAYERS).round().astype(int)]
    return found


def layer_pictures(model: Model, photo: Any) -> dict[str, Any]:
    """Return the layers of a model with pictures of what they compute for a photo, and of its first filters."""
    layers = layers_shown(model)
    maps = model.feature_maps(photo, [layer["name"] for layer in layers]) if layers else {}
    for layer in layers:
        values = maps[layer["name"]][0][:_MAPS]
        layer["maps"] = [_as_address(as_png(grey(value)), "png") for value in values]
    try:
        filters = explain.filters(model)[:_FILTERS]
    except ValueError:  # it has no convolution of photos
        filters = np.empty((0, 3, 3), np.uint8)
    pictures = [_as_address(as_png(np.ascontiguousarray(each.squeeze())), "png") for each in filters]
    return {"layers": layers, "filters": pictures, "image": _as_address(as_jpeg(_seen(model, photo)), "jpeg")}
