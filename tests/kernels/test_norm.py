"""Batch normalisation in training as the compiler fuses it: residuals and activations inside, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import ops, reference
from fastcnn.compiler import fuse, plan
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node

pytestmark = pytest.mark.usefixtures("isa", "poisoned")

EPSILON = 1e-3
ACTIVATIONS = [("Relu", {}), ("Clip", {"min": 0.0, "max": 6.0}), ("Clip", {"min": float("-inf"), "max": 0.25})]
SIZES = [(2, 1, 3, 5), (3, 19, 7, 4), (2, 33, 1, 2), (1, 16, 13, 11)]


def node(op, output, *inputs, **attrs):
    return Node(op, output, inputs, output, {**ops.get(op).defaults, **attrs})


def norm():
    return [
        node("BatchStats", "stats", "x"),
        node("BatchNormTraining", "h", "x", "stats", "weight", "bias", epsilon=EPSILON),
    ]


def backward(grad):
    return [
        node("NormSums", "sums", grad, "x", "stats", epsilon=EPSILON),
        node("NormGrad", "dx", grad, "x", "stats", "weight", "sums", epsilon=EPSILON),
    ]


def values(shape, *images):
    rng = np.random.default_rng(sum(shape))
    sizes = {**dict.fromkeys(images, shape), "weight": shape[1:2], "bias": shape[1:2]}
    return {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}


def run(nodes, inputs, outputs, threads=1):
    """The outputs, and the names of the kernels."""
    shapes = {name: array.shape for name, array in inputs.items()}
    compiled = compile_graph(Graph(nodes, shapes, outputs, {}), shapes)
    with fc.num_threads(threads):
        return compiled.run(list(inputs.values())), [step.kernel for step in compiled.steps]


def close(got, expected):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * (1 + np.abs(expected).max())


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("act", "attrs"), ACTIVATIONS)
def test_gradient_through_an_activation_needs_no_step_of_its_own(act, attrs, shape, monkeypatch):
    monkeypatch.setattr(plan, "OPERATIONS_PER_THREAD", 1)
    inputs = values(shape, "x", "g")
    nodes = [*norm(), node(act, "y", "h", **attrs), node(f"{act}Grad", "gated", "g", "y", **attrs), *backward("gated")]
    outputs = ["y", "sums", "dx"]
    results, kernels = run(nodes, inputs, outputs)
    assert not any(kernel in ("relugrad", "clipgrad", "relu", "clip") for kernel in kernels)
    y, sums, dx = results
    gated = ops.get(f"{act}Grad").reference(ops.get(act).defaults | attrs, [inputs["g"], y])
    stats = reference.batch_stats(inputs["x"])
    close(sums, ops.get("NormSums").reference({"epsilon": EPSILON}, [gated, inputs["x"], stats]))
    close(dx, reference.batch_norm_grad(gated, inputs["x"], inputs["weight"], EPSILON))
    for threads in (2, 3):
        for got, again in zip(results, run(nodes, inputs, outputs, threads)[0], strict=True):
            np.testing.assert_array_equal(got, again)
    monkeypatch.setattr(fuse, "_fuse_gates", lambda graph: graph)
    for got, apart in zip(results, run(nodes, inputs, outputs)[0], strict=True):
        np.testing.assert_array_equal(got, apart)


@pytest.mark.parametrize("shape", SIZES)
def test_residual_is_added_while_normalising(shape):
    inputs = values(shape, "x", "r")
    nodes = [*norm(), node("Add", "sum", "r", "h"), node("Relu", "y", "sum")]
    (y,), kernels = run(nodes, inputs, ["y"])
    assert "add" not in kernels and "relu" not in kernels
    stats = reference.batch_stats(inputs["x"])
    h = reference.batch_norm(inputs["x"], stats[:, 0], stats[:, 1], inputs["weight"], inputs["bias"], EPSILON)
    close(y, reference.relu(h + inputs["r"]))


def test_gates_stay_where_others_read_them_or_the_bias_has_changed_by_then():
    inputs = values((2, 3, 5, 4), "x", "g")
    start = [*norm(), node("Relu", "y", "h"), node("ReluGrad", "gated", "g", "y")]
    _, kernels = run([*start, *backward("gated"), node("Add", "twice", "gated", "gated")], inputs, ["dx", "twice"])
    assert "relugrad" in kernels
    other = node("BatchStats", "others", "g")
    foreign = [
        Node(n.op, n.name, tuple("others" if name == "stats" else name for name in n.inputs), n.output, n.attrs)
        for n in backward("gated")
    ]
    _, kernels = run([*start, other, *foreign], inputs, ["dx"])
    assert "relugrad" in kernels
    inputs |= {"settings": np.zeros(len(fc.kernels._update.SETTINGS), np.float32)}
    sums, grad = backward("gated")
    early = [sums, node("Column", "db", "sums"), node("Update", "new", "bias", "db", "settings", "", "", "", ""), grad]
    _, kernels = run([*start, *early], inputs, ["dx"])
    assert "relugrad" in kernels
