"""Features: the outputs of a network's frozen part, computed once instead of in every epoch.

The network's graph is cut in two behind the frozen part. Layers themselves are frozen in layers/base.py.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fastcnn._progress import Progress
from fastcnn.graph.ir import Graph, Node
from fastcnn.graph_network import GraphNetwork
from fastcnn.network import Network
from fastcnn.training.data import ArraySource, Dataset
from fastcnn.training.loader import Batches

__all__ = ["are_kept", "features_of", "split_model"]

_ALWAYS_KEPT = 256 << 20  # bytes of features, of whatever inputs
_RUNNING = ("running_mean", "running_var")  # the buffers that training changes


def split_model(model: Network, shape: tuple[int, ...]) -> tuple[GraphNetwork, GraphNetwork] | None:
    """Cut a network into the part that is frozen and the part that learns.

    Parameters
    ----------
    model : Network
    shape : tuple of int
        Shape of one input.

    Returns
    -------
    tuple of GraphNetwork, or None
        ``head(body(x))`` is ``model(x)``, and parameters keep their names. None where no parameters are frozen, where
        nothing learns, or where the learning part reads several values of the frozen part.

    Examples
    --------
    >>> from fastcnn import Linear, ReLU, Sequential
    >>> model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
    >>> model[0].freeze()
    >>> body, head = split_model(model, (4,))
    >>> [list(part.state_dict()) for part in (body, head)]
    [['0.weight', '0.bias'], ['2.weight', '2.bias']]
    """
    graph = model._training_graph(shape)
    if any(node.op == "FakeQuantize" for node in graph.nodes):
        return None  # only training steps have this operation
    learning = {
        f"{path}.{name}" if path else name
        for path, layer in model.named_layers()
        if not layer.is_frozen
        for name in (*layer._parameters, *(name for name in layer._buffers if name in _RUNNING))
    }
    fixed = {*graph.inputs, *graph.constants, ""} - learning
    body: list[Node] = []
    head: list[Node] = []
    for node in graph.nodes:
        is_fixed = node.op not in ("Dropout", "DropPath") and fixed.issuperset(node.inputs)
        (body if is_fixed else head).append(node)
        if is_fixed:
            fixed.add(node.output)
    computed = {node.output for node in body}
    needed = {name for node in head for name in node.inputs if name in computed or name in graph.inputs}
    learns = any(name in learning for node in head for name in node.inputs)
    # Scaling and pooling alone are sooner done again than kept: float32 takes four times the memory of pixels.
    frozen = {name for name, _ in model.named_parameters()} - learning
    is_worth_it = any(name in frozen for node in body for name in node.inputs)
    if len(needed) != 1 or not (needed & computed) or not learns or not is_worth_it:
        return None
    (cut,) = needed
    shapes = graph.infer(dict.fromkeys(graph.inputs, (1, *shape)))
    buffers = frozenset(name for name, _ in model.named_buffers())
    rest = GraphNetwork(_part(graph, head, {cut: (None, *shapes[cut][1:])}, graph.outputs[0]), buffers)
    _set_up(rest, model)
    return GraphNetwork(_part(graph, body, graph.inputs, cut), buffers), rest


def _set_up(part: Network, model: Network) -> None:
    """Copy the layers' settings for training from the model: frozen or not, and momentum."""
    layers = dict(model.named_layers())
    for path, layer in part.named_layers():  # parents first, as freezing goes down
        original = layers.get(path)
        if original is not None:
            (layer.freeze if original.is_frozen else layer.thaw)()
            if hasattr(original, "momentum"):
                layer.momentum = original.momentum


def _part(graph: Graph, nodes: list[Node], inputs: dict[str, tuple[int | None, ...]], output: str) -> Graph:
    used = {name for node in nodes for name in node.inputs}
    constants = {name: array for name, array in graph.constants.items() if name in used}
    return Graph(nodes, inputs, [output], constants)


def are_kept(body: Network, data: Dataset) -> bool:
    """Whether the features take no more memory than the inputs, where photos count as decoded; or little."""
    source = data.source
    graph = body._kernel_graph(source.shape)
    shapes = graph.infer(dict.fromkeys(graph.inputs, (1, *source.shape)))
    size = source.x.itemsize if isinstance(source, ArraySource) else 1
    features = 4 * prod(shapes[graph.outputs[0]])
    return len(data) * features <= max(_ALWAYS_KEPT, len(data) * size * prod(source.shape))


def features_of(
    body: Network, data: Dataset, batch_size: int, workers: int | None = None, progress: bool | None = False
) -> Dataset:
    """Return the data set with the frozen part's outputs in place of its inputs.

    Parameters
    ----------
    body : Network
    data : Dataset
    batch_size : int
        Inputs that go through the network at once.
    workers : int, optional
        As for `Batches`.
    progress : bool, optional
        As for `Progress`.

    Returns
    -------
    Dataset
        Its inputs are in memory.
    """
    batches = Batches(data, batch_size, shuffle=False, workers=workers)
    features, done = np.empty((0,), np.float32), 0
    with Progress("features", len(data), progress) as bar:
        for batch in batches.epoch(0):
            part = body(batch.x)
            if not done:  # room for all at once: gathered at the end, they would be there twice
                features = np.empty((len(data), *part.shape[1:]), np.float32)
            features[done : done + len(part)] = part
            done += len(part)
            bar.update(len(part))
    weights = None if data.weights is None else data.weights[data.indices]
    return Dataset(ArraySource(features), data.labels, np.arange(len(data)), weights)
