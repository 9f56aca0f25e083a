"""Islands: what only NumPy computes is a step of the plan, whatever types lie inside, on any number of threads."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import ops
from fastcnn.compiler.mixed import MixedPlan
from fastcnn.compiler.network import compile_network
from fastcnn.compiler.plan import Plan
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel

X = np.random.default_rng(0).standard_normal((4, 3, 9, 8), np.float32)
W = np.random.default_rng(1).standard_normal((8, 3, 3, 3), np.float32)
GENERAL = "ai.onnx::"


def graph_of(*nodes, outputs=("y",), **constants):
    """Nodes are (operation, output, inputs, attributes), all of ONNX's general operations."""
    made = [Node(GENERAL + op, out, tuple(names), out, dict(*attrs)) for op, out, names, *attrs in nodes]
    return Graph(made, {"x": (None, *X.shape[1:])}, list(outputs), constants)


def compiled(graph, x=X):
    return compile_network(graph, {"x": x.shape}).plan


CONV = ("Conv", "c", ["x", "w"])
SINE = graph_of(CONV, ("Sin", "s", ["c"]), ("Relu", "y", ["s"]), w=W)


def test_one_plan_computes_all():
    plan = compiled(SINE)
    assert isinstance(plan, Plan)
    (step,) = [step for step in plan.steps if step.kernel == "numpy"]
    assert step.name == "s" and "no kernel" in step.reasons["numpy"]
    np.testing.assert_allclose(plan.run([X])[0], np.maximum(np.sin(fc.functional.conv2d(X, W)), 0), atol=1e-5)
    assert len(plan.times([X], 2)[1]) == len(plan.steps)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_the_bits_are_those_of_one_thread(threads):
    x = np.random.default_rng(2).standard_normal((16, 3, 64, 64), np.float32)
    nodes = CONV, ("Sin", "s", ["c"]), ("Conv", "d", ["s", "v"]), ("Softplus", "y", ["d"])
    model = GraphModel(replaced(graph_of(*nodes, w=W, v=np.ones((8, 8, 3, 3), np.float32)), x))
    with fc.num_threads(1):
        expected = model(x)
    found = []
    with fc.num_threads(threads):
        callers = [threading.Thread(target=lambda: found.append(model(x))) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(found) == 4 and all(np.array_equal(each, expected) for each in found)


def replaced(graph, x):
    return Graph(graph.nodes, {"x": (None, *x.shape[1:])}, graph.outputs, graph.constants)


def test_other_types_stay_inside():
    """Two islands read the same comparison, which each computes; integers index a table."""
    graph = graph_of(
        CONV,
        ("Greater", "big", ["c", "half"]),
        ("Where", "a", ["big", "c", "half"]),
        ("Cast", "b", ["big"], {"to": 1}),
        ("ArgMax", "i", ["c"], {"axis": 1}),
        ("Gather", "t", ["table", "i"], {"axis": 0}),
        ("Add", "ab", ["a", "b"]),
        ("Add", "y", ["ab", "t"]),
        w=W,
        half=np.float32(0.5),
        table=np.arange(8, dtype=np.float32),
    )
    plan, c = compiled(graph), fc.functional.conv2d(X, W)
    assert isinstance(plan, Plan)
    assert [step.name for step in plan.steps if step.kernel == "numpy"] == ["a", "b", "t"]
    expected = np.where(c > 0.5, c, 0.5) + (c > 0.5) + c.argmax(1, keepdims=True)
    np.testing.assert_allclose(plan.run([X])[0], expected, atol=1e-4)  # Winograd rounds


def test_values_of_all_ranks():
    nodes = [
        ("Sin", "a", ["x"]),
        ("ReduceMin", "least", ["a"], {"keepdims": 0}),  # ()
        ("Reshape", "five", ["a", "shape"]),
        ("Cos", "b", ["five"]),
        ("Mul", "c", ["b", "least"]),
        ("Elu", "y", ["c"]),
    ]
    plan = compiled(graph_of(*nodes, shape=np.array([0, 3, 3, 3, 8])))
    assert isinstance(plan, Plan)
    expected = np.cos(np.sin(X)).reshape(4, 3, 3, 3, 8) * np.sin(X).min()
    np.testing.assert_allclose(plan.run([X])[0], np.where(expected < 0, np.expm1(expected), expected), atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([("NonZero", "y", ["x"])], ["y"]),  # its shape depends on values
        ([("ArgMax", "y", ["x"])], ["y"]),  # not float32
        ([("Sin", "y", ["x"])], ["y", "x"]),  # an input
        ([*[("Sin", f"s{i}", ["x"]) for i in range(9)], ("Mean", "y", [f"s{i}" for i in range(9)])], ["y"]),
    ],
)
def test_what_a_plan_cannot_hold_runs_between_plans(nodes, outputs):
    plan = compiled(graph_of(*nodes, outputs=outputs))
    assert isinstance(plan, MixedPlan) and len(plan.run([X])) == len(outputs)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt("no more")])
def test_an_exception_ends_the_run(monkeypatch, threads, error):
    def fails(x):
        raise error

    model = GraphModel(SINE)
    expected = model(X)
    with fc.num_threads(threads):
        with monkeypatch.context() as patch:
            patch.setattr(ops.get(GENERAL + "Sin"), "function", fails)
            with pytest.raises((KeyboardInterrupt, ValueError), match="no more"):
                model(X)
        np.testing.assert_array_equal(model(X), expected)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_within_numpy(monkeypatch):
    def slow(x):
        for _ in range(600):
            time.sleep(0.1)
        return x

    model = GraphModel(SINE)
    monkeypatch.setattr(ops.get(GENERAL + "Sin"), "function", slow)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with fc.num_threads(2), pytest.raises(KeyboardInterrupt):
        model(X)
    timer.join()
    assert time.monotonic() - start < 30  # not the minute that the function takes


def test_a_gradient_is_refused_by_name_where_it_is_needed():
    """That of what lies behind an island needs none of the island."""
    nodes = [
        Node("Mul", "scaled", ("x", "a"), "scaled", {}),
        Node(GENERAL + "Round", "rounded", ("scaled",), "s", {}),
        Node("Mul", "again", ("s", "b"), "y", {}),
    ]
    one = np.ones(1, np.float32)
    model = GraphModel(Graph(nodes, {"x": (None, 2)}, ["y"], {"a": one, "b": one}))
    graph = model._kernel_graph((2,))
    shapes = {"x": (3, 2), "t": (3, 2), "a": (1,), "b": (1,)}
    loss = Node("MeanSquaredError", "loss", (graph.outputs[0], "t"), "l", {})
    step = Graph([*graph.nodes, loss], shapes, ["l"], {})
    assert list(differentiate(step, shapes, "l", {"b"})[1]) == ["b"]
    with pytest.raises(ValueError, match=r"node 'rounded' \(ai.onnx::Round\) has no gradient.*freeze"):
        differentiate(step, shapes, "l", {"a"})


def test_elementwise_functions_let_batches_be_cut():
    x = np.random.default_rng(2).standard_normal((16, 3, 64, 64), np.float32)
    alone = replaced(graph_of(CONV, ("Sin", "y", ["c"]), w=W), x)
    assert compiled(alone, x).parts > 1
    whole = replaced(graph_of(CONV, ("CumSum", "y", ["c", "axis"]), w=W, axis=np.array(0)), x)
    assert compiled(whole, x).parts == 1
    np.testing.assert_allclose(
        compiled(whole, x).run([x])[0], fc.functional.conv2d(x, W).cumsum(0), rtol=1e-4, atol=1e-4
    )


def test_a_prepared_network_has_steps_in_numpy():
    model = GraphModel(SINE)
    np.testing.assert_array_equal(fc.prepare(model, X.shape)(X), model(X))


def test_budgets_hold_for_islands():
    graph = graph_of(("Sin", "a", ["x"]), ("Cos", "y", ["a"]))
    with pytest.raises(ValueError, match=r"node '.' \(ai.onnx::...\): .*max_bytes"):
        compile_network(graph, {"x": X.shape}, max_bytes=1 << 12)
    island = compile_network(graph, {"x": X.shape}, max_bytes=1 << 22)
    assert island.plan.run([X])[0].shape == X.shape


def test_files_cannot_hold_islands():
    text = '{"version": 1, "inputs": {"x": [null, 4]}, "outputs": ["y"], "nodes": [["InNumpy", "y", ["x"], "y", {}]]}'
    with pytest.raises(ValueError, match="only the compiler makes this operation"):
        Graph.from_json(text, {})
