"""Products of two computed matrices: exact on integers, the same bits for any threads and any place in a batch, and
their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from convolutions import node
from definitions import evaluate
from memory_guard import fenced, guarded

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph
from fastcnn.kernels import _step

SIZES = (1, 2, 3, 7, 8, 16, 17, 33, 50, 64, 197)
# Stacks of matrices, as the two operands have them.
STACKS = (
    ((), ()),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((), (2,)),
    ((4,), ()),
    ((2, 1, 3), (1, 2, 1)),
    ((1, 2, 1, 2), (3, 1, 3, 1)),
)
# Shapes of operands of the function: of one dimension, and empty.
VECTORS = (((4,), (4,)), ((4,), (4, 3)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)), ((0, 4), (4, 2)), ((2, 0), (0, 3)))


def whole(rng, *shape):
    """Numbers whose products and sums are exact."""
    return rng.integers(-8, 9, shape).astype(np.float32)


def product(a, b, activation="", **attrs):
    """The step on arrays that are inputs of a graph."""
    nodes = [node("MatMul", ("a", "b"), "y", **attrs)]
    if activation:
        nodes = [node("MatMul", ("a", "b"), "p", **attrs), node(activation, ("p",), "y")]
    shapes = {"a": a.shape, "b": b.shape}
    plan = compile_graph(Graph(nodes, shapes, ["y"], {}), shapes)
    out = guarded(nodes[0].kind.infer(nodes[0].attrs, [a.shape, b.shape]))
    plan.run([fenced(a), fenced(b)], [out])
    return out, plan


@pytest.mark.usefixtures("isa", "poisoned")
def test_exact_in_all_forms(budget):
    rng = np.random.default_rng(0)
    for i in range(budget(60, 1000)):
        m, n, k = (int(size) for size in rng.choice(SIZES, 3))
        if i % 10 == 0:
            k = int(rng.integers(1, 1500))
        before, behind = STACKS[rng.integers(len(STACKS))]
        flags = {"trans_a": int(rng.integers(2)), "trans_b": int(rng.integers(2))}
        scale = float(rng.choice([1.0, 0.5, -2.0]))
        a, b = whole(rng, *before, m, k), whole(rng, *behind, k, n)
        expected = np.float32(scale) * (a @ b)
        given = [np.ascontiguousarray(a.swapaxes(-1, -2)) if flags["trans_a"] else a]
        given += [np.ascontiguousarray(b.swapaxes(-1, -2)) if flags["trans_b"] else b]
        with fc.num_threads(THREADS[i % 3]), pytest.MonkeyPatch.context() as patch:
            patch.setattr(_step, "LONGEST_PIECE", (1 << 23, 1)[i // 3 % 2])  # cut as usual, or finely
            out, _ = product(*given, **flags, scale=scale)
        assert np.array_equal(out, expected), (before, behind, m, n, k, flags, scale)


@pytest.mark.usefixtures("isa", "poisoned")
def test_bits_depend_on_the_matrices_alone():
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((5, 61, 70), (5, 70, 45)))
    results = []
    for threads in (1, 2, 3, 8):
        with fc.num_threads(threads):
            results.append(product(a, b)[0])
            assert np.array_equal(results[-1], results[0])
    for i in range(len(a)):
        assert np.array_equal(product(a[i : i + 1], b[i : i + 1])[0][0], results[0][i])
        assert np.array_equal(product(a[i, 3:4], b[i])[0], results[0][i, 3:4])


@pytest.mark.usefixtures("isa")
def test_an_activation_is_fused():
    rng = np.random.default_rng(2)
    a, b = whole(rng, 2, 9, 5), whole(rng, 2, 5, 19)
    out, plan = product(a, b, "Relu", scale=0.5)
    assert np.array_equal(out, np.maximum(0.5 * (a @ b), 0)) and len(plan.steps) == 1


def test_operands_that_other_steps_compute():
    """Rows of a fully connected layer end at full vectors."""
    rng = np.random.default_rng(3)
    x, weight = whole(rng, 6, 4), whole(rng, 5, 4)
    nodes = [node("Gemm", ("x", "w"), "h"), node("MatMul", ("h", "h"), "p", trans_b=1), node("MatMul", ("p", "h"), "y")]
    plan = compile_graph(Graph(nodes, {"x": x.shape}, ["y"], {"w": weight}), {"x": x.shape})
    h = x @ weight.T
    assert np.array_equal(plan.run([x])[0], h @ h.T @ h)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gradients(trans_a, trans_b):
    """Against the definition of the gradient by the adjoint: sums of integers, and so exact."""
    rng = np.random.default_rng(4)
    for before, behind in STACKS:
        a = whole(rng, *before, *((3, 4) if trans_a else (4, 3)))
        b = whole(rng, *behind, *((5, 3) if trans_b else (3, 5)))
        nodes = [node("MatMul", ("a", "b"), "y", trans_a=trans_a, trans_b=trans_b, scale=0.5)]
        graph = Graph(nodes, {"a": a.shape, "b": b.shape}, ["y"], {})
        y = evaluate(graph, a=a, b=b)["y"]
        g = whole(rng, *y.shape)
        da, db = gradients(graph, {"a": a, "b": b}, g)
        for x, dx, name in ((a, da, "a"), (b, db, "b")):
            step = whole(rng, *x.shape)
            moved = evaluate(graph, **{"a": a, "b": b, name: x + step})["y"]
            assert (dx.astype(np.float64) * step).sum() == ((moved - y) * g).sum(), (before, behind, name)


def gradients(graph, arrays, g):
    """Of sum(g * y) by the inputs, as the steps of a plan compute them."""
    arrays = arrays | {"g": g.reshape(1, -1)}
    shapes = {name: array.shape for name, array in arrays.items()}
    nodes = [*graph.nodes, node("Reshape", ("y",), "row", shape=(1, -1)), node("LinearLoss", ("row", "g"), "loss")]
    graph, found, _ = differentiate(Graph(nodes, shapes, ["loss"], {}), shapes, "loss", ("a", "b"))
    graph = Graph(graph.nodes, shapes, [found["a"], found["b"]], {})
    return compile_graph(graph, shapes).run([*arrays.values()])


def test_the_function_is_numpys():
    rng = np.random.default_rng(5)
    for a, b in (
        ((4,), (4,)),
        ((4,), (4, 3)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 3)),
        ((0, 4), (4, 2)),
        ((2, 0), (0, 3)),
    ):
        x, y = whole(rng, *a), whole(rng, *b)
        for kind in (np.float32, np.float64):
            got = F.matmul(x.astype(kind), y.astype(kind))
            assert got.dtype == kind and np.array_equal(got, np.matmul(x, y)), (a, b)
    out = np.empty((2, 3), np.float32)
    assert F.matmul(whole(rng, 2, 3, 4), whole(rng, 4), out=out) is out
