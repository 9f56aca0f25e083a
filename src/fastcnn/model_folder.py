"""Folders of timm and of Hugging Face's transformers: config.json beside weights, or beside an ONNX file.

The architecture must be one of the zoo's; an ONNX file may hold any. Nothing in a folder is run. What becomes of photos
is io/foreign_preprocess.py's, and loading.py reads single files.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcnn import zoo
from fastcnn.compiler.network import check_cost, least_batch
from fastcnn.errors import FastcnnWarning, ModelLoadError
from fastcnn.io._regular import open_regular
from fastcnn.io.foreign_preprocess import preprocess_of_timm, preprocess_of_transformers
from fastcnn.io.preprocess import Preprocess
from fastcnn.io.weights import read_weights
from fastcnn.model import GraphModel
from fastcnn.onnx_model import load_onnx
from fastcnn.ops.budget import Budget, json_cost
from fastcnn.zoo.pretrained import imagenet_classes

__all__ = ["load_folder"]

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SAME_NAMES = ("resnet18", "resnet34", "resnet50")  # timm's networks whose weights have the names of the zoo's
# transformers' ResNet, by its layers in each stage and their kind.
_RESNETS = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
}
_WIDTHS = (64, 128, 256, 512)
_LARGEST_CONFIG = 64 << 20


class _Described(NamedTuple):
    """What a folder tells of its model."""

    network: str  # of the zoo, or ""
    architecture: str  # in the folder's words
    classes: list[str] | None
    preprocess: Preprocess | None
    task: str | None
    is_transformers: bool


def load_folder(folder: Path, max_bytes: int, output: str | None = None) -> GraphModel:
    """Read a model from a folder; see `fastcnn.load`.

    Raises
    ------
    ModelLoadError
        If it is damaged, or has an architecture that neither the zoo nor an ONNX file in it has.
    """
    try:
        config = _read_json(folder / _CONFIG, max_bytes)
        described = _described(folder, config, max_bytes)
        weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
        if described.network and weights is not None and output is None:
            model = _of_weights(weights, described, max_bytes)
        else:
            model = _of_onnx(folder, described, max_bytes, output)
        if described.preprocess is not None:
            _take_photos(model, described.preprocess, max_bytes)
        if described.classes is not None:
            model.classes = described.classes
        if described.task is not None:
            model.task = described.task
    except ModelLoadError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelLoadError(f"{folder}: {error}") from error
    return model


def _read_json(path: Path, max_bytes: int) -> dict[str, Any]:
    with open_regular(path) as file:
        content = file.read(_LARGEST_CONFIG + 1)
    if len(content) > _LARGEST_CONFIG:
        raise ModelLoadError(f"{path}: more than {_LARGEST_CONFIG} bytes, expected the description of a model")
    try:
        Budget.of_objects(max_bytes).require(json_cost(len(content)))
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ModelLoadError(f"{path}: a {type(found).__name__}, expected an object of JSON")
    return found


def _described(folder: Path, config: dict[str, Any], max_bytes: int) -> _Described:
    if isinstance(config.get("architecture"), str):
        return _of_timm(folder, config)
    names = config.get("architectures")
    architecture = str(names[0] if isinstance(names, list) and names else config.get("model_type"))[:60]
    processor = folder / _PREPROCESSOR
    preprocess = None
    if processor.is_file():
        preprocess = _known(processor, preprocess_of_transformers, _read_json(processor, max_bytes))
    task = "multi_label" if config.get("problem_type") == "multi_label_classification" else None
    network = _resnet_of(config) if architecture == "ResNetForImageClassification" else ""
    return _Described(network, architecture, _labels_of(config), preprocess, task, True)


def _of_timm(folder: Path, config: dict[str, Any]) -> _Described:
    given = config.get("pretrained_cfg")
    settings = {**config, **given} if isinstance(given, dict) else config
    architecture = config["architecture"][:60]
    extra = set(config.get("model_args") or ()) - {"num_classes", "in_chans"}
    is_plain = not extra and settings.get("global_pool", "avg") == "avg"
    classes = settings.get("label_names")
    if classes is None and settings.get("num_classes") == 1000 and str(settings.get("tag")).endswith("in1k"):
        classes = list(imagenet_classes())
    preprocess = _known(folder / _CONFIG, preprocess_of_timm, settings)
    network = architecture if architecture in _SAME_NAMES and is_plain else ""
    return _Described(network, architecture, classes, preprocess, None, False)


def _known(path: Path, read: Any, settings: Mapping[str, Any]) -> Preprocess | None:
    """Return the preprocessing; None, with a warning, where it is another one than `Preprocess` can do."""
    try:
        found: Preprocess = read(settings)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        text = f"{path}: the preprocessing is not taken over: {error}; set preprocess before photos are classified"
        warnings.warn(text, FastcnnWarning, stacklevel=6)
        return None
    return found


def _labels_of(config: Mapping[str, Any]) -> list[str] | None:
    """Return id2label as a list, by number."""
    labels = config.get("id2label")
    if labels is None:
        return None
    if not isinstance(labels, dict) or sorted(labels, key=str) != sorted(map(str, range(len(labels)))):
        raise ValueError(f"{_CONFIG}: id2label, expected a name for each number from 0 on")
    return [labels[str(i)] for i in range(len(labels))]


def _resnet_of(config: Mapping[str, Any]) -> str:
    """Return the network of the zoo that a ResNet of transformers is, or ""."""
    kind, depths = config.get("layer_type", "bottleneck"), config.get("depths", [3, 4, 6, 3])
    factor = 1 if kind == "basic" else 4
    expected = {
        "embedding_size": _WIDTHS[0],
        "hidden_sizes": [factor * width for width in _WIDTHS],
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }
    if any(config.get(name, value) != value for name, value in expected.items()) or not isinstance(depths, list):
        return ""
    return next((name for known, name in _RESNETS.items() if known == (kind, tuple(depths))), "")


def _of_weights(path: Path, described: _Described, max_bytes: int) -> GraphModel:
    arrays = read_weights(path, max_bytes=max_bytes)
    if arrays and all(name.startswith("timm_model.") for name in arrays):  # transformers' wrapper around timm
        arrays = {name.removeprefix("timm_model."): array for name, array in arrays.items()}
    if described.is_transformers:
        arrays = {_zoo_name(name): array for name, array in arrays.items()}
    first, last = arrays.get("conv1.weight"), arrays.get("fc.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 2 or min(*first.shape, *last.shape) < 1:
        raise ValueError(f"{path.name} has not the weights of {described.architecture}")
    if described.classes is not None and len(described.classes) != len(last):
        raise ValueError(f"{len(described.classes)} names of classes, but {path.name} has {len(last)} outputs")
    # The weights decide how large the network is, as they are bounded by the file.
    network = zoo.build(described.network, num_classes=len(last), in_channels=first.shape[1])
    network.load_state_dict(arrays)
    if described.preprocess is not None:
        network.input_shape = (first.shape[1], *np.atleast_1d(described.preprocess.size).tolist())
    graph = network._stored_graph()
    parameters = {name for name, _, _ in network._named_arrays(True, False)}
    model = GraphModel(graph, frozenset(graph.constants) - parameters, max_bytes)
    model.input_shape = network.input_shape
    check_cost(graph, least_batch(graph, network.input_shape or ()), max_bytes)
    return model


def _zoo_name(name: str) -> str:
    """Return the zoo's name of an array of transformers' ResNet; other names stay.

    Examples
    --------
    >>> _zoo_name("resnet.encoder.stages.0.layers.1.layer.0.convolution.weight"), _zoo_name("classifier.1.bias")
    ('layer1.1.conv1.weight', 'fc.bias')
    """
    if match := re.fullmatch(r"resnet\.embedder\.embedder\.(convolution|normalization)\.(\w+)", name):
        return f"{'conv' if match[1] == 'convolution' else 'bn'}1.{match[2]}"
    stage = (
        r"resnet\.encoder\.stages\.(\d)\.layers\.(\d{1,3})\.(shortcut|layer\.(\d))\.(convolution|normalization)\.(\w+)"
    )
    if match := re.fullmatch(stage, name):
        is_conv = match[5] == "convolution"
        if match[4] is None:
            layer = f"downsample.{0 if is_conv else 1}"
        else:
            layer = f"{'conv' if is_conv else 'bn'}{int(match[4]) + 1}"
        return f"layer{int(match[1]) + 1}.{match[2]}.{layer}.{match[6]}"
    return re.sub(r"^classifier\.1\.", "fc.", name)


def _of_onnx(folder: Path, described: _Described, max_bytes: int, output: str | None) -> GraphModel:
    found = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
    main = [path for path in found if path.name == "model.onnx"][:1] or found
    if len(main) > 1:
        raise ModelLoadError(f"{folder}: {len(main)} ONNX files, expected one, or a model.onnx: {main[0].name}, …")
    if main:
        return load_onnx(main[0], output=output, max_bytes=max_bytes)
    if output is not None:
        raise ModelLoadError(f"{folder}: output={output!r}, but no .onnx file; other networks have one output")
    if described.network:
        raise ModelLoadError(f"{folder}: no weights, expected {' or '.join(_WEIGHTS)}, or an .onnx file")
    raise ModelLoadError(
        f"{folder}: {described.architecture} is no network that fastcnn has ({', '.join(_SAME_NAMES)}): export it to "
        f"ONNX, and put the .onnx file beside {_CONFIG}"
    )


def _take_photos(model: GraphModel, preprocess: Preprocess, max_bytes: int) -> None:
    """Let a model take photos as described, at that size, if its cost is within the limit."""
    (shape,) = model._graph.inputs.values()
    size = (preprocess.channels, *np.atleast_1d(preprocess.size).tolist())
    layouts = (size, (*size[1:], size[0]))  # a network with channels last takes both
    if len(shape) != 4 or not any(
        all(own in (None, given) for own, given in zip(shape[1:], layout, strict=True)) for layout in layouts
    ):
        raise ValueError(f"the network takes inputs of {('N', *shape[1:])}, but photos become {('N', *size)}")
    if model.input_shape not in layouts:
        model.input_shape = size
        graph = model._stored_graph()
        check_cost(graph, least_batch(graph, size), max_bytes)
    model.preprocess = preprocess
