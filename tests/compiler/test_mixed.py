"""Mixed plans: which nodes run as plans and which in NumPy, in which order, and what is kept between them."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn.compiler.mixed import MixedPlan, Segment, compile_mixed
from fastcnn.compiler.resolve import resolve
from fastcnn.graph.ir import Graph, Node

X = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)


def graph_of(*nodes, outputs=None, constants=()):
    """Nodes are (operation, output, inputs...): "Relu" with a kernel, "Sin" and others by NumPy."""
    made = [Node(f"ai.onnx::{op}", output, tuple(names), output, {}) for op, output, *names in nodes]
    return Graph(made, {"x": X.shape}, outputs or [made[-1].output], dict(constants))


def compiled(graph: Graph, **limits) -> MixedPlan:
    return compile_mixed(resolve(graph, {"x": X.shape}), **limits)


def program(plan: MixedPlan) -> list[str]:
    """The parts: names of what a segment gives, or the operation that NumPy computes."""
    return [",".join(part.outputs) if isinstance(part, Segment) else part.op.split(":")[-1] for part in plan._program]


def test_nodes_with_kernels_stand_together_as_long_as_they_can():
    graph = graph_of(
        ("Relu", "a", "x"), ("Sin", "b", "x"), ("Tanh", "c", "a"), ("Cos", "d", "b"), ("Add", "e", "c", "d")
    )
    plan = compiled(graph)
    assert program(plan) == ["c", "Sin", "Cos", "e"]  # a is nobody's but the segment's
    assert [step.kernel for step in plan.steps] == ["relu", "tanh", "numpy", "numpy", "add"]
    (result,) = plan.run([X])
    np.testing.assert_allclose(result, np.tanh(np.maximum(X, 0)) + np.cos(np.sin(X)), rtol=1e-5, atol=1e-6)


def test_what_others_read_leaves_its_segment():
    graph = graph_of(
        ("Relu", "a", "x"), ("Tanh", "b", "a"), ("Sin", "c", "a"), ("Add", "d", "b", "c"), outputs=["d", "a"]
    )
    plan = compiled(graph)
    assert program(plan) == ["a,b", "Sin", "d"]
    first, second = plan.run([X])
    np.testing.assert_array_equal(second, np.maximum(X, 0))
    np.testing.assert_allclose(first, np.tanh(second) + np.sin(second), rtol=1e-5, atol=1e-6)


def test_inputs_and_constants_are_never_given_away():
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    graph = graph_of(("Sin", "y", "x"), ("Identity", "z", "c"), outputs=["y", "x", "z"], constants={"c": table})
    plan, x = compiled(graph), X.copy()
    _, same, constant = plan.run([x])
    same += 1
    constant += 1
    assert np.array_equal(x, X) and np.array_equal(table, np.arange(12).reshape(4, 3))


def test_outputs_may_be_given():
    out = np.zeros_like(X)
    (result,) = compiled(graph_of(("Sin", "y", "x"))).run([X], [out])
    assert result is out and np.array_equal(out, np.sin(X))


def test_values_go_after_their_last_reader():
    """A chain needs the memory of two values at most, whatever its length: the budget of a run is kept."""
    chain = [("Sin", "v1", "x"), *(("Cos", f"v{i}", f"v{i - 1}") for i in range(2, 40))]
    plan = compiled(graph_of(*chain))
    assert sorted(plan._last_use.values()) == list(range(len(chain)))
    enough = (1 << 18) + 10 * X.nbytes  # for one call of NumPy's, and some of the 40 values
    small = compiled(graph_of(*chain), limit=(enough, 1))
    np.testing.assert_array_equal(small.run([X])[0], plan.run([X])[0])
    small._last_use.clear()
    with pytest.raises(ValueError, match="max_bytes"):
        small.run([X])


def test_what_only_shows_when_it_is_computed_names_its_node():
    graph = graph_of(("NonZero", "i", "x"), ("Transpose", "j", "i"))
    plan = compiled(graph)
    assert plan.run([X])[0].shape == (np.count_nonzero(X), 2)
    with pytest.raises(ValueError, match=r"node 'i' \(ai.onnx::NonZero\): .*max_bytes"):
        compiled(graph, limit=(64, 1)).run([X])


def test_times_threads_and_work_are_those_of_the_parts():
    plan = compiled(graph_of(("Relu", "a", "x"), ("Sin", "b", "a"), ("Tanh", "c", "b")))
    times = plan.times([X], 3)
    assert len(times) == 3 and all(len(row) == len(plan.steps) == 3 for row in times)
    assert plan.threads() == 1 and plan.repeat(X.shape) is None and not plan.takes_pixels
    assert plan.operations == sum(step.operations for step in plan.steps) > 2 * X.size
    assert all(step.reasons for step in plan.steps if step.kernel == "numpy")


def test_bits_are_the_same_for_any_number_of_threads():
    plan = compiled(graph_of(("Relu", "a", "x"), ("Sin", "b", "a"), ("Tanh", "c", "b")))
    results = []
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            results.append(plan.run([X])[0])
    assert all(np.array_equal(result, results[0]) for result in results)


def test_numpy_computes_in_the_default_float_modes():
    """Denormal numbers count, as in kernels, whatever the thread's modes are."""
    tiny = np.full(X.shape, 1e-40, np.float32)
    assert (compiled(graph_of(("Sin", "y", "x"))).run([tiny])[0] > 0).all()
