"""Operations that come with ONNX files, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import run

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import MAX_BYTES, Budget


def random_case(rng):
    """An operation, its attributes, and the shape of its input."""
    shape = tuple(int(rng.integers(1, most)) for most in (3, 30, 8, 8))
    kind = rng.choice(["LRN", "Transpose", "Slice", "Reshape"])
    if kind == "LRN":
        beta = float(rng.choice([0.75, 0.5, 1.0, 0.6]))
        return kind, {"size": int(rng.integers(1, 2 * shape[1] + 2)), "alpha": 0.3, "beta": beta, "bias": 1.5}, shape
    if kind == "Transpose":
        rank = int(rng.integers(2, 5))
        return kind, {"perm": tuple(int(axis) for axis in rng.permutation(rank))}, shape[:rank]
    if kind == "Slice":
        axis = int(rng.integers(4))
        start = int(rng.integers(shape[axis]))
        return kind, {"axis": axis, "start": start, "end": int(rng.integers(start + 1, shape[axis] + 1))}, shape
    order = [(0, -1), (0, shape[2], -1), (-1, shape[3]), (0, 1, -1, shape[1])]
    return kind, {"shape": order[int(rng.integers(4))]}, shape


@pytest.mark.parametrize("blocked", [False, True])
def test_they_agree_with_their_definitions(blocked, isa, poisoned, budget):
    """On plain inputs, and on what a convolution leaves in blocks."""
    rng = np.random.default_rng(17)
    for _ in range(budget(60, 2_000)):
        op, attrs, shape = random_case(rng)
        x = rng.standard_normal(shape).astype(np.float32)
        node = Node(op, "node", ("a" if blocked and len(shape) == 4 else "x",), "y", attrs)
        graph = Graph([node], {"x": (None, *shape[1:])}, ["y"], {})
        before = x
        if blocked and len(shape) == 4:
            weight = rng.standard_normal((shape[1], shape[1], 1, 1)).astype(np.float32)
            conv = Node("Conv", "conv", ("x", "w"), "a", ops.get("Conv").defaults)
            graph = Graph([conv, node], graph.inputs, ["y"], {"w": weight})
            before = ops.get("Conv").reference(conv.attrs, [x, weight])
        graph.validate()
        np.testing.assert_allclose(run(graph, x), ops.get(op).reference(attrs, [before]), rtol=1e-4, atol=1e-4)


def test_shapes_that_do_not_fit_are_told():
    for op, attrs, message in [
        ("LRN", {"size": 0}, "size=0, expected 1 to"),
        ("Transpose", {"perm": (0, 0, 1, 2)}, "perm="),
        ("Slice", {"axis": 7}, "axis=7"),
        ("Reshape", {"shape": (5, -1)}, "expected a shape of 48 elements"),
    ]:
        full = {**ops.get(op).defaults, **attrs}
        with pytest.raises(ValueError, match=message):
            ops.get(op).infer(full, [(2, 4, 3, 2)])


@pytest.mark.parametrize(
    ("op", "shape", "attrs"),
    [
        ("AveragePool", (1, 1, 60_000), {"kernel_shape": (60_000,)}),
        ("GlobalAveragePool", (1, 2, 500, 40, 5), {}),
        ("ReduceMean", (200_000, 3), {"keepdims": 0}),
    ],
)
def test_means_without_a_kernel_lose_no_digits(op, shape, attrs):
    x = np.full(shape, 0.1, np.float32)
    axes = [np.array([0])] if op == "ReduceMean" else []
    y = ops.get(f"ai.onnx::{op}").evaluate(attrs, [x, *axes], Budget(MAX_BYTES))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.float32(0.1), rtol=1e-6)


def test_the_sigmoid_of_numpy_does_not_overflow():
    x = np.float32([-np.inf, -88.8, -1, 0, 90, np.inf, np.nan])
    y = ops.get("ai.onnx::Sigmoid").evaluate({}, [x], Budget(MAX_BYTES))
    np.testing.assert_allclose(y, [0, 2.7205e-39, 0.26894142, 0.5, 1, 1, np.nan], rtol=1e-3)
    assert y.dtype == np.float32
