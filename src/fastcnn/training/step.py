"""The graph of a training step: forward in training mode, loss, backward, updates.

    scores = f(x);  loss = L(scores, target);  gradients;  running statistics and parameters, in place

f is the network without a last softmax or sigmoid that belongs to the loss (tasks.py).
Batch normalisation takes the statistics of the batch and dropout its random numbers here; what is frozen stays as at
inference. Compiling is compiler/'s, the arrays behind the state are training/trainer.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from fastcnn import ops
from fastcnn.compiler.expand import expand
from fastcnn.compiler.fold import drop_repeated_relu
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.kernels._update import SETTINGS
from fastcnn.ops.update import MEANS
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.tasks import without_ending

TARGET, NUMBERS, CLOCK = "@target", "@settings", "@clock"


@dataclass(frozen=True)
class StepGraph:
    """What `step_graph` has made.

    Attributes
    ----------
    graph : Graph
        Inputs: x, target, the optimizer's numbers, the clock, then `state`; outputs: loss and scores.
    shapes : dict
        Of the inputs.
    state : list of str
        Names of what the step changes: parameters, running statistics, and running means of the optimizer,
        ``name@first`` and so on; and constants that it reads in the same form.
    packed : set of str
        Those of them that are stored as parameters.
    trained : list of str
        The parameters.
    constants : dict of str to ndarray
        What the network's part of the state begins with.
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
    """The training step of a network.

    Parameters
    ----------
    graph : Graph
        At inference, with one input and one output (N, classes).
    shape : tuple of int
        Of the batch.
    trainable : collection of str
        Names of the parameters to train.
    momenta : dict of str to float
        Momentum of the running statistics by the name of the running mean; batch normalisations that are absent are
        frozen.
    loss : Loss
    optimizer : Optimizer
    clip_norm : float or None
        The largest norm of all gradients together.
    recompute : bool
        Whether normalised values and what follows from them by elements are computed again for the backward pass.
    """
    (x,) = graph.inputs
    forward = _in_training_mode(drop_repeated_relu(without_ending(graph, loss)), {x: shape}, momenta)
    scores = forward.outputs[0]
    score_shape = forward.infer({x: shape, CLOCK: (4,)})[scores]
    if len(score_shape) != 2:
        raise ValueError(f"the network gives {score_shape}, expected scores (N, classes)")
    nodes = [*forward.nodes, Node(loss.op, "@loss", (scores, TARGET), "@loss", {})]
    trained = [name for name in forward.constants if name in trainable]
    state = [name for name in forward.constants if name in trainable or name in _kept_as_parameters(nodes)]
    shapes: dict[str, Shape] = {x: shape, TARGET: score_shape, NUMBERS: (len(SETTINGS),), CLOCK: (4,)}
    shapes |= {name: forward.constants[name].shape for name in state}
    constants = {name: array for name, array in forward.constants.items() if name not in state}
    step = Graph(nodes, dict(shapes), ["@loss", scores], constants)
    step, grads = differentiate(step, shapes, "@loss", trained)
    if recompute:
        step = replace(step, nodes=_recomputed(step.nodes, len(nodes)))
    trained = [name for name in trained if name in grads]
    means = [f"{name}@{mean}" for name in trained for mean in optimizer.states()]
    shapes |= {name: shapes[name.rpartition("@")[0]] for name in means}
    state += means
    updates = _updates(trained, grads, optimizer, clip_norm)
    # Expanded: what reads weights as they are, and what as parameters, shows only then.
    step = expand(replace(step, nodes=_scheduled(step, updates), inputs=dict(shapes)), shapes)
    first = {name: forward.constants[name] for name in state if name in forward.constants}
    return StepGraph(step, shapes, state, _packed(step.nodes, state), trained, first)


def _in_training_mode(graph: Graph, shapes: Mapping[str, Shape], momenta: Mapping[str, float]) -> Graph:
    sizes = graph.infer(shapes)
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
    return Graph(nodes, {**graph.inputs, CLOCK: (4,)}, graph.outputs, graph.constants)


def _recomputed(nodes: list[Node], forward: int) -> list[Node]:
    """The nodes, of which the first `forward` are the forward pass, with clones of cheap ones before their backward
    readers. Cheap are normalisation, whose input is kept anyway, and functions of single elements of cheap values."""
    cheap: dict[str, Node] = {}
    for node in nodes[:forward]:
        elements = ops.get(node.op).is_activation or node.op == "DropoutTraining"
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
    """What batch normalisation in training reads or updates."""
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


def _scheduled(graph: Graph, updates: list[Node]) -> list[Node]:
    """The nodes whose values are used, and all that changes the state after them: until then a step can be given up."""
    used = set(graph.outputs) | {name for node in updates for name in node.inputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in used or ops.get(node.op).updates:
            kept.append(node)
            used.update(node.inputs)
    kept = [*reversed(kept), *updates]
    return sorted(kept, key=lambda node: ops.get(node.op).updates)  # stable: each part stays in order


def _packed(nodes: list[Node], state: list[str]) -> set[str]:
    """State that is read as weights alone."""
    plain = {
        name
        for node in nodes
        if ops.get(node.op).layout != "parameter"
        for i, name in enumerate(node.inputs)
        if i not in ops.get(node.op).constants
    }
    return {name for name in state if name.partition("@")[0] not in plain}
