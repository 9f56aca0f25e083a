"""The graph of a training step: forward in training mode, loss, backward, updates.

    scores = f(x);  loss = L(scores, target);  gradients;  running statistics and parameters, in place

Batch normalisation uses the statistics of the batch, and dropout its random numbers. Frozen layers compute as at
inference. compiler/ compiles the graph, and trainer.py holds the arrays of the state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from fastcnn.compiler.expand import expanded
from fastcnn.compiler.fold import drop_repeated_relu
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node, Shape, add_shapes
from fastcnn.kernels._update import SETTINGS
from fastcnn.ops.update import MEANS
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer

TARGET, NUMBERS, CLOCK = "@target", "@settings", "@clock"


@dataclass(frozen=True)
class StepGraph:
    """The graph of a training step, and the state that it changes.

    Attributes
    ----------
    graph : Graph
        Inputs are x, target, the optimizer's numbers, the clock, then `state`. Outputs are loss and scores.
    shapes : dict
        Shape of each value.
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
    state: list[str]
    packed: set[str]
    trained: list[str]
    constants: dict[str, np.ndarray]


def step_graph(
    graph: Graph,
    shape: Shape,
    trainable: Collection[str],
    momenta: Mapping[str, float],
    loss: Loss,
    optimizer: Optimizer,
    clip_norm: float | None,
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
        frozen.
    loss : Loss
    optimizer : Optimizer
    clip_norm : float or None
        Largest norm of the gradients of all parameters.
    recompute : bool
        Whether the backward pass computes normalised values, and elementwise functions of them, again.
    """
    (x,) = graph.inputs
    graph = drop_repeated_relu(graph)
    shapes = graph.infer({x: shape})
    scores = graph.outputs[0]
    if len(shapes[scores]) != 2:
        raise ValueError(f"the network's output has shape {shapes[scores]}, expected scores (N, classes)")
    forward = [*_in_training_mode(graph, shapes, momenta), Node(loss.op, "@loss", (scores, TARGET), "@loss", {})]
    kept = _kept_as_parameters(forward)
    trained = [name for name in graph.constants if name in trainable]
    state = [name for name in graph.constants if name in trainable or name in kept]
    shapes |= {TARGET: shapes[scores], NUMBERS: (len(SETTINGS),), CLOCK: (4,)}
    inputs = {name: shapes[name] for name in (x, TARGET, NUMBERS, CLOCK, *state)}
    constants = {name: array for name, array in graph.constants.items() if name not in inputs}
    step = Graph(forward, dict(inputs), ["@loss", scores], constants)
    step, grads, shapes = differentiate(step, shapes, "@loss", trained)
    nodes = _recomputed(step.nodes, len(forward)) if recompute else step.nodes
    trained = [name for name in trained if name in grads]
    means = {f"{name}@{mean}": shapes[name] for name in trained for mean in optimizer.states()}
    state += means
    inputs |= means
    shapes |= means
    nodes = _scheduled(nodes, step.outputs, _updates(trained, grads, optimizer, clip_norm))
    # Only expanded nodes show which weights are read as parameters.
    add_shapes(nodes, shapes)
    nodes = expanded(nodes, shapes)
    add_shapes(nodes, shapes)
    first = {name: graph.constants[name] for name in state if name in graph.constants}
    step = replace(step, nodes=nodes, inputs=dict(inputs))
    return StepGraph(step, shapes, state, _packed(nodes, state), trained, first)


def _in_training_mode(graph: Graph, sizes: Mapping[str, Shape], momenta: Mapping[str, float]) -> list[Node]:
    nodes: list[Node] = []
    for i, node in enumerate(graph.nodes):
        x = node.inputs[0]
        if node.op == "BatchNormalization" and node.inputs[3] in momenta:
            _, weight, bias, mean, var = node.inputs
            stats = f"{node.name}:stats"
            values = prod(sizes[x]) // sizes[x][1]
            nodes += [
                Node("BatchStats", stats, (x,), stats, {}),
                Node("BatchNormTraining", node.name, (x, stats, weight, bias), node.output, node.attrs),
                _running(mean, stats, 0, momenta[mean], 1.0),
                _running(var, stats, 1, momenta[mean], values / max(1, values - 1)),
            ]
        elif node.op == "Dropout" and node.attrs["ratio"] > 0:
            attrs = {"ratio": node.attrs["ratio"], "layer": i}
            nodes.append(Node("DropoutTraining", node.name, (x, CLOCK), node.output, attrs))
        else:
            nodes.append(node)
    return nodes


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


def _updates(trained: list[str], grads: Mapping[str, str], optimizer: Optimizer, clip_norm: float | None) -> list[Node]:
    nodes: list[Node] = []
    scale = ""
    if clip_norm is not None:
        for name in trained:
            norm = f"{name}:norm"
            nodes.append(Node("SquaredNorm", norm, (grads[name], scale), norm, {}))
            scale = norm
        nodes.append(Node("ClipScale", "@scale", (scale,), "@scale", {"limit": clip_norm}))
        scale = "@scale"
    for name in trained:
        means = [f"{name}@{mean}" if mean in optimizer.states() else "" for mean in MEANS]
        attrs = {"kind": optimizer.kind, "nesterov": int(optimizer.nesterov)}
        inputs = (name, grads[name], NUMBERS, scale, *means)
        nodes.append(Node("Update", f"{name}:update", inputs, f"{name}:update", attrs))
    return nodes


def _scheduled(nodes: list[Node], outputs: Collection[str], updates: list[Node]) -> list[Node]:
    """Return the nodes whose values are used, then those that change the state: a step can be given up before these."""
    used = set(outputs) | {name for node in updates for name in node.inputs}
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.output in used or node.kind.updates:
            kept.append(node)
            used.update(node.inputs)
    kept = [*reversed(kept), *updates]
    return sorted(kept, key=lambda node: node.kind.updates)  # stable: each part stays in order


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
