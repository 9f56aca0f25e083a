"""Convolution of volumes (N, C, D, H, W): kernels compute it as one of images, and it trains."""

from __future__ import annotations

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper

import fastcnn as fc
from fastcnn import ops
from fastcnn.compiler.network import compile_network
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import MAX_BYTES, Budget

RNG = np.random.default_rng(0)


def random_numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def network(x, weight, *bias, **attrs):
    names = ["x", "w", "b"][: 2 + len(bias)]
    node = Node("ai.onnx::Conv", "conv", tuple(names), "y", attrs)
    constants = dict(zip(names[1:], (weight, *bias), strict=True))
    return Graph([node], {"x": (None, *x.shape[1:])}, ["y"], constants)


def expected(x, weight, *bias, **attrs):
    return ops.get("ai.onnx::Conv").evaluate(attrs, [x, weight, *bias], Budget(MAX_BYTES))


def assert_kernels_agree(x, weight, *bias, **attrs):
    """And no step is NumPy's."""
    compiled = compile_network(network(x, weight, *bias, **attrs), {"x": x.shape})
    assert not [step for step in compiled.plan.steps if step.kernel == "numpy"]
    np.testing.assert_allclose(compiled.plan.run([x])[0], expected(x, weight, *bias, **attrs), rtol=1e-4, atol=1e-4)
    return {node.op for node in compiled.graph.nodes}


FORMS = {
    "depth of the kernel 1": ((2, 3, 4, 6, 5), (4, 3, 1, 3, 3), {"pads": (0, 1, 1, 0, 1, 1)}),
    "width of the kernel 1, one channel": ((2, 1, 6, 5, 4), (16, 1, 3, 3, 1), {"pads": (1, 1, 0, 1, 1, 0)}),
    "depth 1, padded": ((2, 3, 1, 6, 5), (4, 3, 3, 3, 3), {"pads": (1,) * 6}),
    "depth 1, three outputs": ((2, 3, 1, 6, 5), (4, 3, 3, 2, 2), {"pads": (2, 0, 0, 2, 0, 0)}),
    "patches of the depth of the volume": ((1, 2, 4, 8, 8), (5, 2, 4, 4, 4), {"strides": (4, 4, 4)}),
    "patches of part of the volume": ((2, 2, 5, 6, 6), (5, 2, 2, 3, 3), {"strides": (9, 3, 3), "dilations": (2, 1, 1)}),
    "all taps": ((2, 3, 5, 6, 7), (4, 3, 3, 3, 3), {"pads": (1,) * 6}),
    "all taps, two groups, strides": (
        (2, 4, 7, 6, 5),
        (6, 2, 3, 3, 2),
        {"pads": (1, 0, 1, 2, 1, 0), "strides": (2, 1, 2), "dilations": (2, 1, 1), "group": 2},
    ),
    "depthwise": ((1, 5, 4, 6, 5), (5, 1, 3, 1, 3), {"pads": (1, 0, 1, 1, 0, 1), "group": 5}),
    "padded to the size of the input": (
        (1, 2, 5, 6, 5),
        (3, 2, 3, 2, 3),
        {"auto_pad": "SAME_LOWER", "strides": (2,) * 3},
    ),
    "taps that meet padding alone": ((1, 2, 2, 5, 4), (3, 2, 7, 2, 2), {"pads": (4, 0, 0, 3, 0, 0)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_a_convolution_of_images(form, isa, poisoned):
    shape, weight, attrs = FORMS[form]
    assert_kernels_agree(random_numbers(*shape), random_numbers(*weight), random_numbers(weight[0]), **attrs)


def test_where_one_axis_has_one_tap_nothing_is_copied():
    for form in ("depth 1, padded", "patches of the depth of the volume"):
        shape, weight, attrs = FORMS[form]
        found = assert_kernels_agree(random_numbers(*shape), random_numbers(*weight), **attrs)
        assert found == {"Reshape", "Conv"}


def test_random_convolutions(isa, budget):
    rng = np.random.default_rng(5)
    for _ in range(budget(25, 1_000)):
        group = int(rng.integers(1, 3))
        kernel, strides, dilations = ([*map(int, rng.integers(1, most, 3))] for most in (4, 4, 3))
        pads = [int(d * rng.integers(k)) for k, d in zip(2 * kernel, 2 * dilations, strict=True)]
        sizes = [int(d * (k - 1) + 1 + rng.integers(4)) for k, d in zip(kernel, dilations, strict=True)]
        x = rng.standard_normal((int(rng.integers(1, 3)), 2 * group, *sizes), np.float32)
        weight = rng.standard_normal((3 * group, 2, *kernel), np.float32)
        attrs = {"strides": tuple(strides), "dilations": tuple(dilations), "pads": tuple(pads), "group": group}
        assert_kernels_agree(x, weight, **attrs)


def test_outputs_of_padding_alone_are_the_bias():
    x, weight, bias = random_numbers(1, 2, 1, 4, 4), random_numbers(3, 2, 1, 1, 1), random_numbers(3)
    attrs = {"pads": (1, 0, 0, 0, 0, 0), "strides": (2, 1, 1)}
    found = compile_network(network(x, weight, bias, **attrs), {"x": x.shape}).plan.run([x])[0]
    np.testing.assert_array_equal(found, np.broadcast_to(bias[:, None, None, None], (1, 3, 1, 4, 4)))


def test_it_trains(tmp_path):
    x, weight = random_numbers(8, 2, 5, 6, 5), random_numbers(4, 2, 3, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 6),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["z"], axes=[2, 3, 4], keepdims=0),
    ]
    given = [build.tensor("w", weight), build.tensor("b", random_numbers(4))]
    proto = build.model(nodes, [build.value("x", ["N", *x.shape[1:]])], [build.value("z", ["N", 4])], given)
    (tmp_path / "volumes.onnx").write_bytes(proto.SerializeToString())
    model = fc.load(tmp_path / "volumes.onnx")
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    trainer = fc.Trainer(model, fc.SGD(1.0))
    losses = [trainer.step(x, np.arange(8) % 4) for _ in range(20)]
    assert losses[-1] < 0.98 * losses[0]
    assert before and all((array != before[name]).all() for name, array in model.state_dict().items())
