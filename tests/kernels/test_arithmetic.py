"""Arithmetic of broadcast arrays, functions of elements, and reductions, against NumPy; and all their gradients."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from conftest import THREADS
from kernels.graphs_of_nodes import gradients, run, single

import fastcnn
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node

BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Min": np.minimum, "Max": np.maximum}
UNARY = {"Abs": np.abs, "Exp": np.exp, "Sqrt": np.sqrt, "Neg": np.negative, "Reciprocal": np.reciprocal}
SHAPES = [
    ((5,), ()),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 20, 6, 7), (2, 20, 1, 1)),
    ((2, 20, 6, 7), (1, 20, 1, 1)),
    ((2, 3, 6, 7), (1,)),
    ((2, 3, 6, 7), (1, 1, 1, 1)),
    ((2, 3, 6, 7), (2, 1, 6, 7)),
    ((1, 3, 1, 5), (2, 1, 4, 1)),
    ((2, 1, 3, 1, 2, 1, 3), (1, 2, 1, 2, 1, 4, 1)),
    ((2, 4, 1, 3, 1, 5), (2, 4, 2, 1, 2, 5)),
    ((33,), (33,)),
]


def draw(rng, shape):
    """Integers but zero, which NumPy and we divide and root alike."""
    return (rng.integers(1, 9, shape) * rng.choice([-1, 1], shape)).astype(np.float32)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("op", BINARY)
def test_operations_broadcast_as_numpy(op, threads, isa, poisoned):
    rng = np.random.default_rng(1)
    for shapes in SHAPES:
        x, y = (draw(rng, shape) for shape in shapes)
        for a, b in ((x, y), (y, x)):
            with fastcnn.num_threads(threads):
                (z,) = run(single(op, a, b), {"v0": a, "v1": b})
            assert np.array_equal(z, BINARY[op](a, b)), shapes


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("gate", [(2, 21, 1, 1), (1, 21, 1, 1), (), (1, 1, 1, 1), (2, 21, 5, 6)])
def test_gates_stay_in_blocks(op, gate, isa, poisoned):
    """Beside the output of a convolution that another one reads: nothing is reordered for them."""
    rng = np.random.default_rng(2)
    x, y = draw(rng, (2, 3, 5, 6)), draw(rng, gate)
    w, v = (rng.integers(-1, 2, shape).astype(np.float32) for shape in ((21, 3, 1, 1), (4, 21, 3, 3)))
    same = {**ops.get("Conv").defaults, "pads": (1, 1, 1, 1)}
    nodes = [
        Node("Conv", "first", ("x", "w"), "a", {**ops.get("Conv").defaults}),
        Node("Abs", "positive", ("a",), "c", {}),
        Node("Add", "shifted", ("c", "one"), "d", {}),
        Node(op, "gate", ("d", "y"), "b", {}),
        Node("Conv", "last", ("b", "v"), "z", same),
    ]
    constants = {"w": w, "v": v, "one": np.ones((1, 21, 1, 1), np.float32), "y": y}
    graph = Graph(nodes, {"x": x.shape}, ["z"], constants)
    plan = compile_graph(graph, {"x": x.shape})
    z = np.empty((2, 4, 5, 6), np.float32)
    plan.run([x], [z])
    a = np.abs(np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])) + 1
    expected = fastcnn.reference.conv2d(BINARY[op](a, y), v, pads=(1,) * 4)
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_elements(op, isa, poisoned):
    rng = np.random.default_rng(3)
    for shape in [(1,), (7, 9), (2, 19, 3, 5), (3, 2, 2, 2, 4)]:
        x = np.abs(draw(rng, shape)) if op == "Sqrt" else draw(rng, shape)
        (y,) = run(single(op, x), {"v0": x})
        np.testing.assert_allclose(y, UNARY[op](x.astype(np.float64)), rtol=3e-7)
    special = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run(single(op, special), {"v0": special})[0], UNARY[op](special), rtol=1e-6)


def test_nan_wins_in_minima_and_maxima(isa):
    x, y = np.float32([[np.nan, 1, np.inf, -np.inf]] * 9), np.float32([[0, np.nan, 2, 2]] * 9)
    for op in ("Min", "Max"):
        np.testing.assert_array_equal(run(single(op, x, y), {"v0": x, "v1": y})[0], BINARY[op](x, y))


@pytest.mark.parametrize("op", [*BINARY, *UNARY])
def test_gradients_of_operations(op, isa, poisoned):
    rng = np.random.default_rng(4)
    for shapes in [((2, 3), (3,)), ((2, 3, 4, 5), (2, 3, 1, 1)), ((3, 1, 2, 1, 2), (1, 2, 1, 3, 2)), ((4,), (4,))]:
        arrays = [np.abs(draw(rng, shape)) + rng.random(shape, np.float32) for shape in shapes]
        arrays = arrays[: 1 if op in UNARY else 2]
        function = UNARY[op] if op in UNARY else BINARY[op]
        check_gradients(op, arrays, function)


def check_gradients(op, arrays, function, **attrs):
    """Against differences of the definition in float64."""
    y = function(*(a.astype(np.float64) for a in arrays))
    g = np.random.default_rng(0).standard_normal(np.shape(y)).astype(np.float32)
    for i, found in enumerate(gradients(op, arrays, g, **attrs)):
        expected = np.empty(arrays[i].shape)
        for at in np.ndindex(arrays[i].shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [a.astype(np.float64) for a in arrays]
                moved[i][at] += step
                ends.append((function(*moved) * g).sum())
            expected[at] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max(initial=1))


def test_equal_operands_share_the_gradient_of_a_maximum(isa):
    x, y, g = np.float32([1, 2, 3]), np.float32([1, 3, 2]), np.float32([8, 8, 8])
    assert [v.tolist() for v in gradients("Max", [x, y], g)] == [[4, 0, 8], [4, 8, 0]]
    assert [v.tolist() for v in gradients("Min", [x, y], g)] == [[4, 8, 0], [4, 0, 8]]
    (found,) = gradients("ReduceMax", [np.float32([[3, 3, 1]])], np.float32([[6]]), axes=(1,))
    assert found.tolist() == [[3, 3, 0]]


REDUCTIONS = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceL2": lambda x, **how: np.sqrt((x * x).sum(**how)),
}
REDUCED = [(7,), (3, 70), (70, 3), (2, 3, 5), (3, 4, 2, 19), (1, 5, 1, 300), (2, 3, 2, 2, 3), (2, 1, 3, 2, 2, 2)]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_along_any_axes(op, threads, isa, poisoned):
    rng = np.random.default_rng(5)
    for shape in REDUCED:
        x = draw(rng, shape)
        choices = [axes for n in range(len(shape) + 1) for axes in combinations(range(len(shape)), n)]
        for axes in choices:
            for keepdims in (0, 1):
                graph = single(op, x, axes=axes, keepdims=keepdims)
                with fastcnn.num_threads(threads):
                    (y,) = run(graph, {"v0": x})
                how = {"axis": axes or tuple(range(len(shape))), "keepdims": bool(keepdims)}
                expected = REDUCTIONS[op](x.astype(np.float64), **how)
                np.testing.assert_allclose(y, expected, rtol=1e-7 if op != "ReduceMean" else 2e-7, atol=1e-7)


def test_sums_of_many_numbers_keep_their_digits(isa):
    for shape, axes in (((3_000_000,), (0,)), ((2, 300_000, 5), (1,)), ((1000, 3, 700), (0, 2))):
        x = np.full(shape, 0.1, np.float32)
        for op in ("ReduceMean", "ReduceSum"):
            (y,) = run(single(op, x, axes=axes, keepdims=1), {"v0": x})
            np.testing.assert_allclose(y, REDUCTIONS[op](x.astype(np.float64), axis=axes, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_gradients_of_reductions(op, isa, poisoned):
    rng = np.random.default_rng(6)
    for shape, axes in (((4,), (0,)), ((3, 5), (1,)), ((3, 5), (0,)), ((2, 3, 2, 4), (1, 3)), ((2, 3, 4), ())):
        x = (rng.permutation(int(np.prod(shape))) + 1).reshape(shape).astype(np.float32)
        for keepdims in (0, 1):
            how = {"axis": axes or None, "keepdims": bool(keepdims)}
            check_gradients(op, [x], lambda v, how=how: REDUCTIONS[op](v, **how), axes=axes, keepdims=keepdims)


def test_the_gradient_of_a_norm_of_zeros_is_zero(isa):
    x = np.zeros((2, 3), np.float32)
    x[1] = 2
    (found,) = gradients("ReduceL2", [x], np.ones((2, 1), np.float32), axes=(1,), keepdims=1)
    np.testing.assert_allclose(found, [[0, 0, 0], [3**-0.5] * 3], rtol=1e-6)


def test_axes_that_do_not_fit_are_named():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"axes=\(2,\), expected axes of x \(x.shape=\(2, 3\)\)"):
        run(single("ReduceSum", x, axes=(2,)), {"v0": x})
