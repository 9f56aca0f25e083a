"""Batches: a large batch goes through the network in parts whose activations fit the caches, a small one undivided.

The results of an image have the same bits either way: how a layer is computed does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastcnn.graph.ir import Graph

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
    for node in graph.nodes:
        shape = whole[node.output]
        if "axis" in node.attrs and node.op != "Flatten" and node.attrs["axis"] % len(shape) == 0:
            return False
        if shape != (batch, *single[node.output][1:]) or single[node.output][0] != 1:
            return False
        if node.kind.name == "Pad" and any(node.attrs["pads"][axis] for axis in (0, len(shape))):
            return False
    return True
