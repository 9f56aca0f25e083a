"""Values inside a network: what its layers compute for images, and embeddings.

The network's graph gets other outputs, and is compiled and kept as for predictions. Nothing of the network is copied.
explain/ makes pictures of the values.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from fastcnn._arguments import as_int, as_real_array
from fastcnn._forks import Guard
from fastcnn._names import listed, meant
from fastcnn.compiler.network import infer_values, least_batch
from fastcnn.graph.ir import Graph, Node, Shape, with_outputs
from fastcnn.head import last_layer
from fastcnn.io.preprocess import Pixels
from fastcnn.kernels._cpu import threads_of_call
from fastcnn.network import Network
from fastcnn.plan_cache import Compiled, PlanCache
from fastcnn.scaling import as_inputs
from fastcnn.training.predictions import predicted_data
from fastcnn.training.prepare import source_of

__all__ = [
    "Layer",
    "View",
    "as_name",
    "as_network",
    "embeddings",
    "feature_maps",
    "inputs_of",
    "layers_of",
    "value_called",
]

T = TypeVar("T")

MAX_VIEWS = 4  # plan caches of other outputs, kept for each network
_FEWEST_AXES = 3  # of values that have places: maps (N, C, H, W), and tokens (N, T, C)


@dataclass(frozen=True)
class Layer:
    """One layer of a network, as `fastcnn.explain.layers` lists it.

    Parameters
    ----------
    name : str
        What `feature_maps` takes.
    op : str
        ONNX operator.
    shape : tuple of int, or None
        Of its output for one input, with the batch axis; None if it depends on values.

    Examples
    --------
    >>> Layer("conv1", "Conv", (1, 6, 28, 28)).name
    'conv1'
    """

    name: str
    op: str
    shape: Shape | None


class View:
    """A network, of whose graph other values are the outputs; `PlanCache` compiles it like the network itself.

    Parameters
    ----------
    network : Network
    change : callable
        Returns the graph with other outputs, from the shape of one input.
    """

    def __init__(self, network: Network, change: Callable[[tuple[int, ...]], Graph]) -> None:
        self._network, self._change = network, change
        self._max_bytes = network._max_bytes
        self.tuning, self.reproducible, self.strict = network.tuning, network.reproducible, network.strict
        self.dtype = network.dtype

    def named_layers(self) -> Iterator[tuple[str, Any]]:
        """The network and all layers below it, with their paths."""
        return self._network.named_layers()

    def _settled(self, look: Callable[[], T]) -> T:
        return self._network._settled(look)

    def _stored_graph(self, input_shape: Sequence[int]) -> Graph:
        return self._change(tuple(input_shape))

    def compiled(self, kind: object, shape: tuple[int, ...], pixels: Pixels | None = None) -> Compiled:
        """Return the plan for a batch of `shape`. `kind` tells views of one network apart."""
        settings = (tuple(sorted(self.tuning.items())), self.reproducible, self.strict, self.dtype)
        cache = _cache_of(self._network, (kind, *settings))
        return cache.get(self, shape, None if pixels is None else pixels.preprocess)


_guard = Guard()
_caches: WeakKeyDictionary[Network, OrderedDict[object, PlanCache]] = WeakKeyDictionary()


def _cache_of(network: Network, key: object) -> PlanCache:
    with _guard.lock:
        caches = _caches.setdefault(network, OrderedDict())
        cache = caches.setdefault(key, PlanCache())
        caches.move_to_end(key)
        if len(caches) > MAX_VIEWS:
            caches.popitem(last=False)
        return cache


# -- names -------------------------------------------------------------------------------------------------


def value_called(graph: Graph, name: str, where: str) -> str:
    """Return the value that a name stands for.

    It is the value of that name. Or it is the output of the node of that name, or of the layer with that path: what
    the layer's last call has computed last.

    Raises
    ------
    ValueError
        If there is none; `where` begins the message.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> graph = zoo.resnet18().graph()
    >>> [value_called(graph, name, "") for name in ("layer1.0.bn1", "layer1", "layer1.0:0")]
    ['layer1.0.bn1:0', 'layer1.1.relu.relu_1:0', 'layer1.0:0']
    """
    found = _found(graph, as_name(name, where))
    if found is None:
        names = list(named_nodes(graph))
        raise ValueError(f"{where}: no layer is called {name[:80]!r}{meant(name, names)}; layers: {listed(names)}")
    return found


def as_name(name: Any, where: str) -> str:
    """Return the name of a layer; `where` begins the message of the error for something else."""
    if not isinstance(name, str):
        raise TypeError(f"{where}: got {type(name).__name__}, expected the name of a layer")
    return name


def _found(graph: Graph, name: str) -> str | None:
    if any(node.output == name for node in graph.nodes):
        return name
    inner = f"{name}."
    return next((n.output for n in reversed(graph.nodes) if n.name == name or n.name.startswith(inner)), None)


def named_nodes(graph: Graph) -> dict[str, Node]:
    """Return the nodes by the name that stands for their output: their own where it does, else that of the output."""
    last: dict[str, str] = {}  # what a path stands for
    for node in graph.nodes:
        path = ""
        for part in node.name.split("."):
            path = f"{path}.{part}" if path else part
            last[path] = node.output
    values = {node.output for node in graph.nodes}
    clear = {node.name: node for node in graph.nodes if node.name not in values and last[node.name] == node.output}
    by_output = {node.output: name for name, node in clear.items()}
    return {by_output.get(node.output, node.output): node for node in graph.nodes}


def as_network(value: Any, where: str) -> Network:
    """Return a network; `where` begins the message of the error for something else."""
    if not isinstance(value, Network):
        raise TypeError(f"{where}: model is of type {type(value).__name__}, expected a Model")
    return value


def layers_of(model: Network, input_shape: Sequence[int] | None = None) -> list[Layer]:
    """Return the layers of a network, by the names that `Model.feature_maps` takes, in the order of computation.

    Parameters
    ----------
    model : Model
    input_shape : sequence of int, optional
        Shape of one input, without the batch axis; default `model.input_shape`.

    Returns
    -------
    list of Layer

    Raises
    ------
    ValueError
        If there is no shape, or the network does not take it.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> [layer.name for layer in layers_of(zoo.lenet())][:3]
    ['conv1', 'relu1', 'pool1']
    """
    network = as_network(model, "layers")
    graph = network._settled(lambda: network._stored_graph(input_shape))
    shape = network.input_shape if input_shape is None else tuple(input_shape)
    shapes = infer_values(graph, least_batch(graph, shape or ()))[0]
    return [Layer(name, node.op.rpartition(":")[2], shapes[node.output]) for name, node in named_nodes(graph).items()]


# -- inputs ------------------------------------------------------------------------------------------------


def inputs_of(network: Network, images: Any, where: str) -> tuple[np.ndarray, bool]:
    """Return a batch of inputs, and whether a single one was given without an axis for the batch.

    Parameters
    ----------
    network : Network
    images : photo, sequence of photos, or array_like
        Photos are what `Model.classify` takes. An array is one input, or a batch.
    where : str
        Begins messages.
    """
    as_network(network, where)
    is_single = _is_photo(images)
    photos = [images] if is_single else images
    source = source_of(network, photos)
    if source is not None:
        preprocess = source.preprocess  # type: ignore[attr-defined]
        return np.concatenate([np.asarray(preprocess(photo), np.float32) for photo in photos]), is_single
    array = images if isinstance(images, np.ndarray) else as_real_array(images, f"{where}: image")
    shape = network.input_shape
    if shape is not None and array.ndim == len(shape):
        whole = as_inputs(array[None], shape)
        if whole.shape[1:] == shape:
            return network._as_batch(whole), True
    batch = network._as_batch(as_inputs(array, shape) if array.ndim else array)
    if len(batch) == 0:
        raise ValueError(f"{where}: image.shape={batch.shape}, expected at least one image")
    return batch, False


def _is_photo(value: Any) -> bool:
    """Whether it is one photo: a file, its content, an image of Pillow's, or pixels (H, W), (H, W, 3)."""
    if isinstance(value, np.ndarray):
        has_colours = value.ndim == 3 and value.shape[2] in (1, 3, 4)
        return value.dtype == np.uint8 and (value.ndim == 2 or has_colours)
    is_file = isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview))
    return is_file or (hasattr(value, "getexif") and hasattr(value, "mode"))


# -- values ------------------------------------------------------------------------------------------------


def feature_maps(network: Network, images: Any, layers: str | Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return what layers compute; see `Model.feature_maps`."""
    batch, _ = inputs_of(network, images, "feature_maps")
    if layers is None:
        names = _with_places(network, batch.shape)
    else:
        names = [layers] if isinstance(layers, str) else list(layers) if isinstance(layers, Sequence) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(f"feature_maps: layers={str(layers)[:80]}, expected names of layers, or None")
    values: dict[str, str] = {}

    def change(shape: tuple[int, ...]) -> Graph:
        graph = network._stored_graph(shape)
        values.update({name: value_called(graph, name, "feature_maps: layers") for name in names})
        return with_outputs(graph, list(dict.fromkeys(values.values())))

    plan = View(network, change).compiled(("maps", tuple(names)), batch.shape).plan
    if not values:  # the plan was kept
        graph = network._settled(lambda: network._stored_graph(batch.shape[1:]))
        values.update({name: value_called(graph, name, "feature_maps: layers") for name in names})
    found = dict(zip(dict.fromkeys(values.values()), plan.run([batch]), strict=True))
    return {name: found[values[name]] for name in names}


def _with_places(network: Network, shape: tuple[int, ...]) -> list[str]:
    graph = network._settled(lambda: network._stored_graph(shape[1:]))
    shapes = infer_values(graph, dict.fromkeys(graph.inputs, shape))[0]
    seen = {*graph.inputs}  # what depends on the images, as reshaped weights do not
    for node in graph.nodes:
        if not seen.isdisjoint(node.inputs):
            seen.add(node.output)
    found = {name: node.output for name, node in named_nodes(graph).items() if node.output in seen}
    names = [name for name, value in found.items() if len(shapes[value] or ()) >= _FEWEST_AXES]
    if not names:
        raise ValueError("feature_maps: no layer computes values at places, expected images: name layers of others")
    return names


def embeddings(
    network: Network,
    x: Any,
    batch_size: int,
    progress: bool,
    on_error: str,
    layer: str | None,
    num_threads: int | None,
) -> np.ndarray:
    """Return a row of features for each input; see `Model.embed`."""
    size = as_int(batch_size, "embed: batch_size", 1)
    layer = None if layer is None else as_name(layer, "embed: layer")

    def value_of(shape: tuple[int, ...]) -> tuple[Graph, str]:
        graph = network._stored_graph(shape)
        if layer is not None:
            return graph, value_called(graph, layer, "embed: layer")
        return graph, last_layer(graph, f"embed: {type(network).__name__}").node.inputs[0]

    def change(shape: tuple[int, ...]) -> Graph:
        graph, value = value_of(shape)
        return with_outputs(graph, [value])

    view = View(network, change)

    def part_of(batch: Any) -> np.ndarray:
        shape = batch.shape if len(batch) else (1, *batch.shape[1:])
        compiled = view.compiled(("embedding", layer), shape, batch if isinstance(batch, Pixels) else None)
        return compiled.run(batch) if len(batch) else np.empty((0, *compiled.output_shape[1:]), np.float32)

    def compute(batch: Any) -> np.ndarray:
        if not isinstance(batch, Pixels):
            batch = network._as_batch(as_inputs(np.asarray(batch), network.input_shape))
        values = np.concatenate([part_of(batch[i : i + size]) for i in range(0, max(len(batch), 1), size)])
        if values.ndim == 2:
            return values
        last = _is_of_tokens(*network._settled(lambda: value_of(batch.shape[1:])))
        places = tuple(range(1, values.ndim - 1) if last else range(2, values.ndim))
        return np.asarray(values.mean(axis=places), np.float32)

    with threads_of_call(num_threads):
        plain = isinstance(x, np.ndarray) and x.dtype.kind not in "UO"
        found = None if plain else predicted_data(network, x, size, progress, on_error, compute)
        return compute(as_real_array(x, "embed: x")) if found is None else found


def _is_of_tokens(graph: Graph, name: str) -> bool:
    """Whether the last axis has the features: a linear layer or a normalisation of it has made, or reads, the value."""
    kinds = {node.op.rpartition(":")[2] for node in graph.nodes if name == node.output or name in node.inputs}
    return not kinds.isdisjoint(("Gemm", "MatMul", "LayerNormalization"))
