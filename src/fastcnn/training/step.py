"""The graph of a training step: forward in training mode, loss, backward, updates.

    scores = f(x);  loss = L(scores, target);  gradients;  running statistics and parameters, in place

f is the network without a last softmax or sigmoid that belongs to the loss (tasks.py). Batch normalisation uses the
statistics of the batch, and dropout its random numbers. Frozen layers compute as at inference. updating.py has the
nodes of optimizers. compiler/ compiles the graph, and trainer.py holds the arrays of the state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np

from fastcnn.compiler.channels import channels_first_for_training
from fastcnn.compiler.expand import expanded
from fastcnn.compiler.fold import drop_repeated_relu
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node, Shape, add_shapes
from fastcnn.kernels._update import SETTINGS
from fastcnn.layers.base import Layer
from fastcnn.training.updating import Updating, update_nodes

TARGET, CLOCK = "@target", "@clock"
# Momentum of running statistics that no layer holds: those of files, under any names. PyTorch's default.
MOMENTUM = 0.1


class StepKind(NamedTuple):
    """What the steps of a trainer differ in, beside the shape of the batch."""

    loss: str  # the operation
    gathers: bool  # gradients into their mean
    applies: bool  # updates


class Account(NamedTuple):
    """How far a training has come."""

    steps: int
    updates: int
    gathered: float  # what the batches since the last update weigh


def learning_parts(model: Layer) -> tuple[set[str], dict[str, float]]:
    """Names of the parameters to train, and the momentum of the running statistics by the name of the running mean."""
    trainable: set[str] = set()
    momenta: dict[str, float] = {}
    for path, layer in model.named_layers():
        prefix = f"{path}." if path else ""
        if not layer.is_frozen:
            trainable.update(prefix + name for name in layer._parameters)
            if "running_mean" in layer._buffers:
                momenta[f"{prefix}running_mean"] = getattr(layer, "momentum", MOMENTUM)
    return trainable, momenta


@dataclass(frozen=True)
class StepGraph:
    """The graph of a training step, and the state that it changes.

    Attributes
    ----------
    graph : Graph
        Inputs are x, target, the rows of `numbers`, the clock, then `state`. Outputs are loss and scores.
    shapes : dict
        Shape of each value.
    numbers : list of str
        Names of the rows of numbers.
    state : list of str
        Names of the values that the step changes: parameters, running statistics, and the optimizer's running means,
        such as ``name@first``. Constants that it reads in the form of parameters belong to it.
    packed : set of str
        Values of the state that are stored as parameters.
    trained : list of str
        Names of the parameters.
    constants : dict of str to ndarray
        First values of the network's part of the state.
    """

    graph: Graph
    shapes: dict[str, Shape]
    numbers: list[str]
    state: list[str]
    packed: set[str]
    trained: list[str]
    constants: dict[str, np.ndarray]


def step_graph(
    graph: Graph,
    shape: Shape,
    trainable: Collection[str],
    momenta: Mapping[str, float],
    loss: str,
    updating: Updating,
    recompute: bool,
) -> StepGraph:
    """Make the training step of a network.

    Parameters
    ----------
    graph : Graph
        The network at inference, with one input and one output (N, classes).
    shape : tuple of int
        Shape of the batch.
    trainable : collection of str
        Names of the parameters to train.
    momenta : dict of str to float
        Momentum of the running statistics by the name of the running mean. Batch normalisations without an entry are
        frozen, unless their scale or bias is trained.
    loss : str
        The operation.
    updating : Updating
    recompute : bool
        Whether the backward pass computes normalised values, and elementwise functions of them, again.
    """
    (x,) = graph.inputs
    graph = drop_repeated_relu(graph)
    shapes = graph.infer({x: shape})
    graph = channels_first_for_training(graph, shapes, trainable)
    shapes = graph.infer({x: shape})
    scores = graph.outputs[0]
    if len(shapes[scores]) != 2:
        raise ValueError(f"the network's output has shape {shapes[scores]}, expected scores (N, classes)")
    momenta = _momenta_of_files(graph, trainable) | dict(momenta)
    training, ones = _in_training_mode(graph, shapes, momenta)
    forward = [*training, Node(loss, "@loss", (scores, TARGET), "@loss", {})]
    kept = _kept_as_parameters(forward)
    trained = [name for name in graph.constants if name in trainable]
    state = [name for name in graph.constants if name in trainable or name in kept]
    numbers = updating.numbers(trained)
    shapes |= {TARGET: shapes[scores], **dict.fromkeys(numbers, (len(SETTINGS),)), CLOCK: (4,)}
    inputs = {name: shapes[name] for name in (x, TARGET, *numbers, CLOCK, *state)}
    constants = {name: array for name, array in graph.constants.items() if name not in inputs} | ones
    step = Graph(forward, dict(inputs), ["@loss", scores], constants)
    step, grads, shapes = differentiate(step, shapes, "@loss", trained)
    nodes = _recomputed(step.nodes, len(forward)) if recompute else step.nodes
    trained = [name for name in trained if name in grads]
    means = {f"{name}@{mean}": shapes[name] for name in trained for mean in updating.means()}
    state += means
    inputs |= means
    shapes |= means
    nodes = _used(nodes, [*step.outputs, *grads.values()])
    # Only expanded nodes show which weights are read as parameters.
    add_shapes(nodes, shapes)
    nodes = expanded(nodes, shapes)
    packed = _packed(nodes, state)
    nodes = _scheduled(nodes, update_nodes(trained, grads, updating, packed))
    add_shapes(nodes, shapes)
    first = {name: graph.constants[name] for name in state if name in graph.constants}
    step = replace(step, nodes=nodes, inputs=dict(inputs))
    return StepGraph(step, shapes, numbers, state, packed, trained, first)


def scores_of(step: StepGraph) -> Graph:
    """The part of a step that computes the scores, as it does; for losses that are computed outside."""
    scores = step.graph.outputs[1]
    used, kept = {scores}, []
    for node in reversed(step.graph.nodes):
        if node.output in used and not node.kind.updates:
            kept.append(node)
            used.update(node.inputs)
    return replace(step.graph, nodes=kept[::-1], outputs=[scores])


def _momenta_of_files(graph: Graph, trainable: Collection[str]) -> dict[str, float]:
    """The momenta of batch normalisations whose scale or bias is trained, whatever their statistics are called."""
    norms = [node for node in graph.nodes if node.op == "BatchNormalization"]
    return {node.inputs[3]: MOMENTUM for node in norms if not set(node.inputs[1:3]).isdisjoint(trainable)}


def _in_training_mode(
    graph: Graph, sizes: Mapping[str, Shape], momenta: Mapping[str, float]
) -> tuple[list[Node], dict[str, np.ndarray]]:
    """The nodes as they compute in training, and constants that they need beside the network's own."""
    nodes: list[Node] = []
    ones: dict[str, np.ndarray] = {}
    for i, node in enumerate(graph.nodes):
        x = node.inputs[0]
        if node.op == "BatchNormalization" and node.inputs[3] in momenta:
            _, weight, bias, mean, var = node.inputs
            stats, y, shape = f"{node.name}:stats", node.output, sizes[x]
            values = prod(shape) // shape[1]
            if len(shape) != 4:  # rows (N, C), or signals (N, C, L)
                x, y = f"{node.name}:images", f"{node.name}:normal"
                nodes.append(Node("Reshape", x, node.inputs[:1], x, {"shape": (*shape[:2], 1, prod(shape[2:]))}))
            nodes += [
                Node("BatchStats", stats, (x,), stats, {}),
                Node("BatchNormTraining", node.name, (x, stats, weight, bias), y, node.attrs),
                _running(mean, stats, 0, momenta[mean], 1.0),
                _running(var, stats, 1, momenta[mean], values / max(1, values - 1)),
            ]
            if y != node.output:
                nodes.append(Node("Reshape", f"{y}:back", (y,), node.output, {"shape": shape}))
        elif node.op == "Dropout" and node.attrs["ratio"] > 0:
            attrs = {"ratio": node.attrs["ratio"], "layer": i}
            nodes.append(Node("DropoutTraining", node.name, (x, CLOCK), node.output, attrs))
        elif node.op == "DropPath" and node.attrs["ratio"] > 0:
            # Dropout of ones, one for each input, gives the factors of the branches.
            whole, factor = f"{node.name}:ones", f"{node.name}:factor"
            ones[whole] = np.ones((sizes[x][0], *(1,) * (len(sizes[x]) - 1)), np.float32)
            attrs = {"ratio": node.attrs["ratio"], "layer": i}
            nodes.append(Node("DropoutTraining", factor, (whole, CLOCK), factor, attrs))
            nodes.append(Node("Mul", node.name, (x, factor), node.output, {}))
        else:
            nodes.append(node)
    return nodes, ones


def _recomputed(nodes: list[Node], forward: int) -> list[Node]:
    """Return the nodes, in which the backward pass reads clones of cheap forward nodes.

    The first `forward` nodes are the forward pass. Cheap are normalisation, whose input is kept anyway, and elementwise
    functions of cheap values.
    """
    cheap: dict[str, Node] = {}
    for node in nodes[:forward]:
        elements = node.kind.is_activation or node.op == "DropoutTraining"
        if node.op == "BatchNormTraining" or (elements and node.inputs[0] in cheap):
            cheap[node.output] = node
    again: dict[str, str] = {}
    result = list(nodes[:forward])

    def name_again(name: str) -> str:
        if name in cheap and name not in again:
            node = cheap[name]
            again[name] = f"{name}:again"
            inputs = tuple(name_again(value) for value in node.inputs)
            result.append(Node(node.op, f"{node.name}:again", inputs, again[name], node.attrs))
        return again.get(name, name)

    for node in nodes[forward:]:
        inputs = tuple(map(name_again, node.inputs))  # appends clones first
        result.append(replace(node, inputs=inputs))
    return result


def _running(name: str, stats: str, index: int, momentum: float, factor: float) -> Node:
    attrs = {"index": index, "momentum": momentum, "factor": factor}
    return Node("RunningUpdate", f"{name}:update", (name, stats), f"{name}:update", attrs)


def _kept_as_parameters(nodes: list[Node]) -> set[str]:
    """Return the values that batch normalisation reads or updates in training."""
    return {name for node in nodes if node.op in ("BatchNormTraining", "RunningUpdate") for name in node.inputs}


def _used(nodes: list[Node], outputs: Collection[str]) -> list[Node]:
    """Return the nodes whose values are used, and those that change the state."""
    used = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.output in used or node.kind.updates:
            kept.append(node)
            used.update(node.inputs)
    return kept[::-1]


def _scheduled(nodes: list[Node], updates: list[Node]) -> list[Node]:
    """Return the nodes that change the state behind all others: a step can be given up before these.

    The norm of gathered gradients is that of their mean, and comes after it.
    """
    first = next((i for i, node in enumerate(updates) if node.kind.updates), len(updates))
    nodes = [*nodes, *updates[:first]]
    return sorted(nodes, key=lambda node: node.kind.updates) + updates[first:]  # stable: each part stays in order


def _packed(nodes: list[Node], state: list[str]) -> set[str]:
    """Return the values of the state that are read as weights only."""
    plain = {
        name
        for node in nodes
        if (kind := node.kind).layout != "parameter"
        for i, name in enumerate(node.inputs)
        if i not in kind.constants
    }
    return {name for name in state if name.partition("@")[0] not in plain}
