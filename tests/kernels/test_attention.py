"""Attention against its definition: odd sizes, heads anywhere, every instruction set, poisoned memory, any threads."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from convolutions import node
from memory_guard import fenced, guarded

import fastcnn as fc
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph
from fastcnn.kernels import _step

pytestmark = pytest.mark.usefixtures("isa", "poisoned")
DIMS = (1, 8, 24, 32, 64, 80)
TOKENS = ((1, 1), (5, 1), (7, 7), (1, 197))


def attend(arrays, attrs, names=("q", "k", "v", "bias")):
    """The step on arrays that are inputs of a graph. Names that come twice are one value."""
    attention = node("HeadAttention", names[: 4 if "bias" in arrays else 3], "y", **attrs)
    shapes = {name: array.shape for name, array in arrays.items()}
    plan = compile_graph(Graph([attention], shapes, ["y"], {}), shapes)
    out = guarded(attention.kind.infer(attention.attrs, [arrays[name].shape for name in attention.inputs]))
    plan.run([fenced(array) for array in arrays.values()], [out])
    return out, attention.kind.reference(attention.attrs, [arrays[name] for name in attention.inputs])


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def random_case(rng, tokens=TOKENS, dims=DIMS):
    heads, images = int(rng.integers(1, 4)), int(rng.choice([1, 2, 4]))
    dim, value = (int(size) for size in rng.choice(dims, 2))
    places, (queries, keys) = {}, (tokens[i] for i in rng.integers(len(tokens), size=2))
    arrays = {}
    for name, size, pixels in (("q", dim, queries), ("k", dim, keys), ("v", value, keys)):
        start, step = int(rng.choice([0, 0, 16, 3])), size + int(rng.choice([0, 0, 5]))
        places |= {f"{name}_start": start, f"{name}_step": step}
        channels = start + (heads - 1) * step + size + int(rng.integers(0, 3))
        arrays[name] = rng.standard_normal((images, channels, *pixels), np.float32)
    if rng.integers(2):
        shape = [rng.choice([1, images]), rng.choice([1, heads]), rng.choice([1, np.prod(queries)]), np.prod(keys)]
        arrays["bias"] = rng.standard_normal(shape).astype(np.float32)
    attrs = {"heads": heads, "head_dim": dim, "value_dim": value, "scale": float(rng.choice([0.0, 0.3])), **places}
    return arrays, attrs


def test_as_defined(budget):
    rng = np.random.default_rng(0)
    for i in range(budget(40, 1000)):
        arrays, attrs = random_case(rng)
        with fc.num_threads(THREADS[i % 3]), pytest.MonkeyPatch.context() as patch:
            patch.setattr(_step, "LONGEST_PIECE", (1 << 23, 1)[i // 3 % 2])  # cut as usual, or finely
            close(*attend(arrays, attrs))


def test_one_value_may_be_all_three():
    rng = np.random.default_rng(1)
    for dim in (16, 24):
        x = rng.standard_normal((2, 9 * dim, 5, 5), np.float32)
        steps = {"q_start": 0, "k_start": 3 * dim, "v_start": 6 * dim, "q_step": dim, "k_step": dim, "v_step": dim}
        close(*attend({"x": x}, {"heads": 3, "head_dim": dim, "value_dim": dim, **steps}, ("x",) * 3))


def test_exact_where_weights_are():
    """Each query sees two keys, whose scores are equal: half the sum of their values."""
    rng = np.random.default_rng(2)
    values, bias = rng.integers(-99, 100, (1, 48, 1, 50)), np.full((1, 1, 50, 50), -np.inf, np.float32)
    pairs = np.stack([rng.permutation(50)[:2] for _ in range(50)])
    np.put_along_axis(bias[0, 0], pairs, 0.0, 1)
    arrays = {"q": np.zeros((1, 48, 1, 50)), "k": rng.standard_normal((1, 48, 1, 50)), "v": values, "bias": bias}
    steps = {"q_step": 16, "k_step": 16, "v_step": 16}
    got, _ = attend({name: x.astype(np.float32) for name, x in arrays.items()},
                    {"heads": 3, "head_dim": 16, "value_dim": 16, **steps})  # fmt: skip
    assert np.array_equal(got[0, :, 0], values[0, :, 0][:, pairs].sum(2) / 2)


def test_special_values_are_numpys():
    """Keys that are not seen, queries that see none, NaN and infinity: they stay with their queries and heads."""
    rng = np.random.default_rng(3)
    arrays, attrs = random_case(rng, tokens=((3, 7),), dims=(16,))
    attrs |= {"heads": 2, "q_start": 0, "k_start": 0, "v_start": 0, "q_step": 16, "k_step": 16, "v_step": 16}
    arrays = {name: rng.standard_normal((2, 32, 3, 7), np.float32) for name in "qkv"}
    arrays["bias"] = bias = rng.standard_normal((1, 2, 21, 21)).astype(np.float32)
    bias[0, 0, 3] = -np.inf
    bias[0, :, :, 20] = -np.inf
    bias[0, 1, 5, 6], bias[0, 1, 7, 2] = np.inf, np.nan
    arrays["q"][0, 3, 0, 1] = np.nan
    got, expected = attend(arrays, attrs)
    assert np.array_equal(np.isnan(got), np.isnan(expected)) and np.isnan(got).any() and not np.isnan(got).all()
    close(got, expected)


def test_bits_depend_on_the_image_alone():
    rng = np.random.default_rng(4)
    steps = {"q_step": 32, "k_step": 32, "v_step": 32}
    attrs = {"heads": 2, "head_dim": 32, "value_dim": 32, **steps}
    arrays = {name: rng.standard_normal((5, 64, 7, 20), np.float32) for name in "qkv"}
    whole = attend(arrays, attrs)[0]
    for threads in (2, 3, 8):
        with fc.num_threads(threads):
            assert np.array_equal(attend(arrays, attrs)[0], whole)
    for i in range(5):
        assert np.array_equal(attend({name: x[i : i + 1] for name, x in arrays.items()}, attrs)[0][0], whole[i])


def test_images_with_a_halo():
    """A convolution reads the queries, and another one the result, with padding: rows of pixels have gaps."""
    rng = np.random.default_rng(5)
    x, weight = rng.standard_normal((2, 32, 6, 5), np.float32), rng.standard_normal((32, 32, 3, 3), np.float32)
    attrs = {"heads": 2, "head_dim": 16, "value_dim": 16, "q_step": 16, "k_step": 16, "v_step": 16}
    nodes = [
        node("Relu", ("x",), "r"),
        node("HeadAttention", ("r", "r", "r"), "a", **attrs),
        node("Conv", ("a", "w"), "c", pads=(1,) * 4),
        node("Conv", ("r", "w"), "d", pads=(1,) * 4),
        node("Add", ("c", "d"), "y"),
    ]
    plan = compile_graph(Graph(nodes, {"x": x.shape}, ["y"], {"w": weight}), {"x": x.shape})
    values = {"x": x, "w": weight}
    for each in nodes:
        values[each.output] = each.kind.reference(each.attrs, [values[name] for name in each.inputs])
    np.testing.assert_allclose(plan.run([x])[0], values["y"], rtol=1e-4, atol=1e-3)


def test_a_bias_that_a_convolution_computes():
    """It is blocked, and read as a plain value."""
    rng = np.random.default_rng(6)
    x, weight = rng.standard_normal((2, 32, 5, 4), np.float32), rng.standard_normal((2, 3, 1, 1), np.float32)
    given = rng.standard_normal((2, 3, 20, 20), np.float32)
    attrs = {"heads": 2, "head_dim": 16, "value_dim": 16, "q_step": 16, "k_step": 16, "v_step": 16}
    nodes = [node("Conv", ("g", "w"), "bias"), node("HeadAttention", ("x", "x", "x", "bias"), "y", **attrs)]
    shapes = {"x": x.shape, "g": given.shape}
    plan = compile_graph(Graph(nodes, shapes, ["y"], {"w": weight}), shapes)
    bias = nodes[0].kind.reference(nodes[0].attrs, [given, weight])
    close(plan.run([x, given])[0], nodes[1].kind.reference(nodes[1].attrs, [x, x, x, bias]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": (1, 32, 5, 4)}, "expected the batch of q.shape=(2, 32, 5, 4)"),
        ({"v": (2, 32, 4, 5)}, "and the same pixels"),
        ({"q": (2, 31, 5, 4)}, "expected to lie within the channels of q.shape=(2, 31, 5, 4)"),
        ({"bias": (2, 3, 1, 20)}, "expected (divisor of 2, 1 or 2, 1 or 20, 20)"),
        ({"bias": (2, 20)}, "bias.shape=(2, 20), expected 4 dimensions"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    shapes = dict.fromkeys("qkv", (2, 32, 5, 4)) | change
    attrs = {"heads": 2, "head_dim": 16, "value_dim": 16, "q_step": 16, "k_step": 16, "v_step": 16}
    attention = node("HeadAttention", tuple(shapes), "y", **attrs)
    with pytest.raises(ValueError) as error:
        attention.kind.infer(attention.attrs, [*shapes.values()])
    assert message in str(error.value)


def gradients(arrays, attrs, names, of):
    """The step of the gradient, and what it is by definition."""
    forward = node("HeadAttention", names, "y", **attrs)
    operands = [arrays[name] for name in names]
    y = forward.kind.reference(forward.attrs, operands).astype(np.float32)
    given = {"g": np.random.default_rng(9).standard_normal(y.shape, np.float32), "y0": y, **arrays}
    backward = node("HeadAttentionGrad", ("g", "y0", *names), "d", **attrs, of=of)
    shapes = {name: array.shape for name, array in given.items()}
    plan = compile_graph(Graph([backward], shapes, ["d"], {}), shapes)
    inputs = [given[name] for name in backward.inputs]
    out = guarded(backward.kind.infer(backward.attrs, [array.shape for array in inputs]))
    plan.run([fenced(array) for array in given.values()], [out])
    return out, backward.kind.reference(backward.attrs, inputs)


def test_gradients_as_defined(budget):
    rng = np.random.default_rng(3)
    for i in range(budget(25, 1000)):
        arrays, attrs = random_case(rng)
        with fc.num_threads(THREADS[i % 3]), pytest.MonkeyPatch.context() as patch:
            patch.setattr(_step, "LONGEST_PIECE", (1 << 23, 1)[i // 3 % 2])  # cut as usual, or finely
            for of in ("q", "k", "v", *["bias"] * ("bias" in arrays)):
                got, wanted = gradients(arrays, attrs, tuple(arrays), of)
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_gradients_of_one_image_come_at_once():
    rng = np.random.default_rng(4)
    for dim in (16, 24):
        x = rng.standard_normal((2, 9 * dim + 3, 7, 10), np.float32)
        steps = {"q_start": 0, "k_start": 3 * dim, "v_start": 6 * dim, "q_step": dim, "k_step": dim, "v_step": dim}
        attrs = {"heads": 3, "head_dim": dim, "value_dim": dim, **steps}
        np.testing.assert_allclose(*gradients({"x": x}, attrs, ("x",) * 3, "qkv"), rtol=1e-4, atol=1e-4)


def test_gradients_have_the_same_bits_on_any_number_of_threads():
    rng = np.random.default_rng(5)
    arrays, attrs = random_case(rng, tokens=((7, 9),), dims=(24,))
    found = []
    for threads in THREADS:
        with fc.num_threads(threads):
            found.append([gradients(arrays, attrs, tuple(arrays), of)[0] for of in "qkv"])
    assert all(np.array_equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
