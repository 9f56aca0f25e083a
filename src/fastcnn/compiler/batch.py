"""Batches: a large batch goes through the network in parts whose activations fit the caches, a small one undivided.

The results of an image have the same bits either way: how a layer is computed does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from fastcnn.graph.ir import Graph, Node, Shape

# Bytes of activations that stay in the second-level cache from step to step: docs/tuning.md, "Parts of a batch".
CACHE_BYTES = 1 << 20
# Larger parts read the weights less often. They pay if the weights have this many times the bytes of the activations
# (same entry).
WEIGHTS_PER_ACTIVATIONS = 5
# Fewer parts leave threads idle.
LEAST_PARTS = 4
# A batch that need not have the bits of single images takes the algorithms for a part of this size at most. Parts are
# rarely larger, and few choices of algorithms mean few copies of packed weights.
MOST_TOGETHER = 4


def part_size(batch: int, arena_bytes: int, weight_bytes: int) -> int:
    """Images in each part of a batch; a divisor of the batch.

    Parameters
    ----------
    batch : int
        Number of images.
    arena_bytes, weight_bytes : int
        Bytes of a single image's activations, and of the network's packed weights.

    Examples
    --------
    >>> part_size(16, 20_000, 200_000)  # small: one part
    16
    >>> part_size(16, 6_000_000, 14_000_000), part_size(16, 5_000_000, 100_000_000)
    (1, 4)
    """
    most = max(1, CACHE_BYTES // max(1, arena_bytes), weight_bytes // (WEIGHTS_PER_ACTIVATIONS * max(1, arena_bytes)))
    if most >= batch:
        return batch
    return max(size for size in range(1, batch // LEAST_PARTS + 1) if size <= most and batch % size == 0)


def is_separable(graph: Graph, input_shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether each image of a batch, the first axis of all inputs, is computed without the others."""
    batches = {shape[0] for shape in input_shapes.values()}
    if len(batches) != 1 or not all(node.kind.keeps_images_apart(node.attrs) for node in graph.nodes):
        return False
    batch = batches.pop()
    try:
        whole = graph.infer(dict(input_shapes))
        single = graph.infer({name: (1, *shape[1:]) for name, shape in input_shapes.items()})
    except ValueError:  # a constant has the batch's size
        return False
    places: dict[str, int | None] = {"": None, **dict.fromkeys(graph.constants), **dict.fromkeys(graph.inputs, 0)}
    for node in graph.nodes:
        places[node.output] = place = _place(whole[node.output], single[node.output], batch)
        operands = [places[name] for i, name in enumerate(node.inputs) if i not in node.kind.shape_alone]
        if place is None or not _keeps_apart(node, place, operands, whole):
            return False
    return all(places[name] == 0 and single[name][0] == 1 for name in graph.outputs)


def _place(whole: Shape, single: Shape, batch: int) -> int | None:
    """The axis of a value along which the images lie, each with the same number of elements; None if it is unknown."""
    if batch == 1:
        return 0 if whole == single and whole[:1] == (1,) else None
    differing = [axis for axis, sizes in enumerate(zip(whole, single, strict=False)) if sizes[0] != sizes[1]]
    if len(whole) != len(single) or len(differing) != 1 or whole[differing[0]] != batch * single[differing[0]]:
        return None
    return differing[0]


def _keeps_apart(node: Node, place: int, operands: Sequence[int | None], shapes: Mapping[str, Shape]) -> bool:
    """Whether a node computes each image without the others; `place` is the axis of the images in its output."""
    kind, attrs, output = node.kind, node.attrs, shapes[node.output]
    first, rank = operands[0], len(shapes[node.inputs[0]])
    if node.op == "Transpose":
        return first is not None and attrs["perm"][place] == first
    if kind.is_alias:  # a reshape: the images are the outermost part of their axis, before and behind
        return first is not None and prod(shapes[node.inputs[0]][:first]) == prod(output[:place])
    ranks = [len(shapes.get(name, ())) for name in node.inputs]
    if kind.is_elementwise or kind.is_activation or node.op == "Expand":
        behind = [size - axis for size, axis in zip(ranks, operands, strict=False) if axis is not None]
        apart = set(behind) == {len(output) - place}
    elif node.op == "MatMul":  # the last two axes are those of matrices
        behind = [size - axis for size, axis in zip(ranks, operands, strict=False) if axis is not None]
        rows = behind == [2] and operands[1] is None and not attrs["trans_a"]
        apart = set(behind) == {len(output) - place} and (behind[0] > 2 or rows)
    elif node.op in ("Slice", "Concat", "Softmax", "Gemm"):
        apart = {axis for axis in operands if axis is not None} == {place}
    else:
        apart = {axis for axis in operands if axis is not None} <= {0} and place == 0
    axes = {axis % rank for axis in (*attrs.get("axes", ()), *([attrs["axis"]] if "axis" in attrs else ()))}
    pads = attrs.get("pads", ()) if node.op == "Pad" else ()
    return apart and place not in axes and not (pads and (pads[place] or pads[rank + place]))
