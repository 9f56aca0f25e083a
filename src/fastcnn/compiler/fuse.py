"""Fusing: a node that only finishes its producer's output becomes part of the producer, in its epilogue.

    Conv, BatchNormTraining ▸ Add ▸ activation   →  Conv, BatchNormTraining(residual=, activation=)
    Conv, Gemm, BatchNormalization, Add, Mul ▸ activation   →  the same with activation=
    ReluGrad, ClipGrad ▸ NormSums, NormGrad   →  NormSums, NormGrad(activation=)

    Conv (by Winograd's algorithm, or of few channels of grey images) ▸ MaxPool of 2 x 2  →  the same with pool=True

The fused node takes the place of the last node, so that a residual is computed before it is read.
"""

from __future__ import annotations

from dataclasses import replace

from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node, Shape
from fastcnn.ops.base import resolve_pads
from fastcnn.ops.decisions import Finish


def fuse(state: State) -> State:
    """Fuse residual sums and activations into their producers, and count the operations of the remaining nodes."""
    state = _fuse_activations(_fuse_residuals(_fuse_gates(state)))
    shapes = state.shapes
    work = [
        (
            (node.op, node.name),
            node.kind.flops(node.attrs, [shapes[name] if name else None for name in node.inputs], shapes[node.output]),
        )
        for node in state.graph.nodes
    ]
    return replace(state, work=dict(work), operations=sum(operations for _, operations in work))


def _fuse_gates(state: State) -> State:
    """Fuse the gradient of a Relu or Clip, the gate, into the gradient of the batch normalisation before it.

    The input of the normalisation tells which gradients pass the gate, and its own gradient reads that input anyway.
    NormSums and NormGrad then both compute the gate, and nothing is stored in between.
    """
    gates: dict[str, tuple[Node, Node, Node]] = {}
    position: dict[str, int] = {}
    for gate in state.graph.nodes:
        if gate.op not in ("ReluGrad", "ClipGrad"):
            continue
        act = state.makers.get(gate.inputs[1])
        if act is None or act.op != gate.op.removesuffix("Grad") or gate.output in state.outputs:
            continue
        norm = state.makers.get(act.inputs[0])
        if norm is None or norm.op != "BatchNormTraining":
            continue
        position = position or {node.output: i for i, node in enumerate(state.graph.nodes)}
        readers = state.users[gate.output]
        changes = [user for name in norm.inputs[2:] for user in state.users[name] if user.kind.updates]
        last = max((position[reader.output] for reader in readers), default=-1)
        unchanged = all(position[change.output] > last for change in changes)
        if unchanged and all(_reads_gradient_of(reader, norm, gate) for reader in readers):
            gates[gate.output] = gate, act, norm
    nodes = []
    for node in state.graph.nodes if gates else ():
        if node.output in gates:
            continue
        if node.inputs and node.inputs[0] in gates:
            gate, act, norm = gates[node.inputs[0]]
            weight, bias = norm.inputs[2:]
            further = (weight, bias) if node.op == "NormSums" else (bias,)  # NormGrad reads the weight already
            inputs = (gate.inputs[0], *node.inputs[1:], *further)
            node = node.reading(inputs).deciding(gate=(act.op, act.attrs), fused=(gate.name,))
        nodes.append(node)
    return state.with_nodes(nodes) if gates else state


def _reads_gradient_of(node: Node, norm: Node, gate: Node) -> bool:
    """Whether the node belongs to the gradient of a batch normalisation, and reads the gate only as `grad`."""
    belongs = node.op in ("NormSums", "NormGrad") and node.inputs[1:3] == norm.inputs[:2]
    return belongs and node.inputs[0] == gate.output and gate.output not in node.inputs[1:]


# The operations that a residual can be fused into, and how many inputs come before it.
_INPUTS = {"Conv": 3, "BatchNormTraining": 4}


def _fuse_residuals(state: State) -> State:
    shapes = state.shapes
    position = {node.output: i for i, node in enumerate(state.graph.nodes)}
    nodes: list[Node | None] = list(state.graph.nodes)
    changed = False
    for i, node in enumerate(state.graph.nodes):
        if node.op != "Add" or len({shapes[name] for name in (*node.inputs, node.output)}) != 1:
            continue
        # The sum is fused into the later of two producers, whose output is still in the cache.
        for name in sorted(node.inputs, key=lambda name: -position.get(name, -1)):
            producer = nodes[position[name]] if name in position else None
            if producer is None or producer.op not in _INPUTS or not state.is_private(name):
                continue
            most = _INPUTS[producer.op]
            if len(producer.inputs) > most:
                continue
            other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
            inputs = (*producer.inputs, *[""] * (most - len(producer.inputs)), other)
            nodes[position[name]] = None
            nodes[i] = replace(producer, inputs=inputs, output=node.output).deciding(fused=(node.name,))
            position[node.output], changed = i, True
            break
    return state.with_nodes(node for node in nodes if node is not None) if changed else state


def _fuse_activations(state: State) -> State:
    nodes: list[Node] = []
    absorbed: set[str] = set()
    for node in state.graph.nodes:
        if node.output in absorbed:
            continue
        if node.kind.takes_activation and state.is_private(node.output):
            act = state.reader[node.output]
            if act.kind.is_activation:
                absorbed.add(act.output)
                finish, fused = Finish((act.op, act.attrs)), (*node.decided.fused, act.name)
                node = replace(node, output=act.output).deciding(finish=finish, fused=fused)
        nodes.append(node)
    return state.with_nodes(nodes) if absorbed else state


def fuse_pools(state: State) -> State:
    """Fuse maxima of 2 x 2 pixels into the convolutions whose algorithms can compute them."""
    shapes, vl = state.shapes, state.options.vl
    hosts: dict[str, Node] = {}  # by the output of the convolution
    for pool in state.graph.nodes:
        conv = state.makers.get(pool.inputs[0]) if pool.op == "MaxPool" else None
        if conv is None or not state.is_private(conv.output):
            continue
        if not _can_pool(conv, pool, shapes[conv.output]):
            continue
        access = conv.kind.access(conv, shapes, vl)
        if access.pools or (access.pools_input and conv.inputs[0] in state.graph.inputs):
            finish, fused = replace(conv.decided.finish, pool=True), (*conv.decided.fused, pool.name)
            hosts[conv.output] = replace(conv, output=pool.output).deciding(finish=finish, fused=fused)
    if not hosts:
        return state
    absorbed = {node.output for node in hosts.values()}
    return state.with_nodes(hosts.get(node.output, node) for node in state.graph.nodes if node.output not in absorbed)


def _can_pool(conv: Node, pool: Node, shape: Shape) -> bool:
    activation = conv.decided.finish.activation
    if len(conv.inputs) > 3 or (activation is not None and activation[0] not in ("Relu", "Clip")):
        return False
    window = pool.attrs
    if window["kernel_shape"] != (2, 2) or window["strides"] != (2, 2) or window["dilations"] != (1, 1):
        return False
    even = shape[2] % 2 == shape[3] % 2 == 0
    return (even or not window["ceil_mode"]) and not any(resolve_pads(window, shape[2:], (2, 2)))
