"""Packing: steps that bring weights which training changes into the order that their kernel reads.

Lowering packs the weights that are constants. `kernels/_repack` defines the orders.
"""

from __future__ import annotations

from dataclasses import replace

from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node


def pack_weights(state: State) -> State:
    """Put a PackWeights node before each node whose kernel does not read parameters as they are.

    The packed weights become further inputs of the node; `Decisions.packed` tells the place of each.
    """
    layouts, vl = state.arranged, state.options.vl
    if not layouts.parameters:
        return state
    shapes, lanes, accesses = dict(state.shapes), dict(layouts.lanes), dict(layouts.accesses)
    nodes: list[Node] = []
    for node in state.graph.nodes:
        op, packed = node.kind, {}
        if layouts.parameters.isdisjoint(node.inputs):
            nodes.append(node)
            continue
        inputs = [*node.inputs, *[""] * (4 - len(node.inputs))]
        for i in op.constants:
            name = inputs[i] if i < len(inputs) else ""
            order = op.order(node, i, shapes, lanes, vl) if name in layouts.parameters else None
            if order is not None:
                packed[i] = len(inputs)
                inputs.append(f"{name}:{order['form']}@{node.name}")
                packing = Node("PackWeights", inputs[-1], (name,), inputs[-1], order)
                nodes.append(packing)
                shapes[packing.output], lanes[packing.output] = (order["size"],), 1
                accesses[packing.output] = packing.kind.access(packing, shapes, vl)
        if packed:
            node = node.reading(inputs).deciding(packed=packed)
        nodes.append(node)
    return replace(state.with_nodes(nodes, shapes=shapes), layouts=replace(layouts, lanes=lanes, accesses=accesses))
