"""Attention as function, as layer, in training and in files, against its definition."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from convolutions import node
from definitions import evaluate
from onnx.reference import ReferenceEvaluator

import fastcnn as fc
from fastcnn import functional as F
from fastcnn import reference
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph

RNG = np.random.default_rng(0)
HEADS, SIZE = 3, 24


def drawn(*shape):
    return RNG.standard_normal(shape, np.float32)


def close(got, expected):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


# Shapes of query, key and value, and of a mask.
SHAPES = [
    ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4), None),
    ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4), (5, 7)),
    ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4), (2, 1, 1, 7)),
    ((2, 3, 5, 8), (3, 7, 8), (1, 3, 7, 4), (3, 5, 1)),
    ((5, 8), (7, 8), (7, 4), (7,)),
    ((4, 5, 8), (4, 7, 8), (4, 7, 4), (4, 5, 7)),
    ((2, 1, 3, 5, 8), (4, 1, 7, 8), (7, 4), (4, 1, 1, 7)),
]


@pytest.mark.parametrize(("q", "k", "v", "mask"), SHAPES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_function(q, k, v, mask, kind):
    given = [drawn(*shape).astype(kind) for shape in (q, k, v)]
    bias = None if mask is None else drawn(*mask).astype(kind)
    got = F.scaled_dot_product_attention(*given, bias, scale=0.3)
    assert got.dtype == kind
    close(got, reference.attention(*given, bias, 0.3))
    out = np.empty(got.shape, kind)
    assert F.scaled_dot_product_attention(*given, out=out) is out
    close(out, reference.attention(*given))
    if mask is not None:
        seen = bias > 0
        got = F.scaled_dot_product_attention(*given, seen)
        expected = reference.attention(*given, np.where(seen, 0, -np.inf))
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        close(got, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((5,), (7, 8), (7, 4)), "query.shape=(5,), expected at least 2 dimensions (..., tokens, channels)"),
        (((5, 8), (7, 9), (7, 4)), "key.shape=(1, 1, 7, 9), expected (1, 1, 'tokens', 8)"),
        (((5, 8), (7, 8), (6, 4)), "value.shape=(1, 1, 6, 4), expected (1, 1, 7, 'channels')"),
        (((2, 5, 8), (3, 7, 8), (7, 4)), "expected axes before the last two that broadcast"),
        (((5, 8), (7, 8), (7, 4), (5, 6)), "attn_mask.shape=(5, 6), expected a shape that broadcasts with (5, 7)"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError) as error:
        F.scaled_dot_product_attention(*(np.zeros(shape) for shape in arguments))
    assert str(error.value).startswith("scaled_dot_product_attention: ") and message in str(error.value)
    with pytest.raises(TypeError, match="key: got None"):
        F.scaled_dot_product_attention(np.zeros((2, 2)), None, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"scale=0.0, expected another number"):
        F.scaled_dot_product_attention(*(np.zeros((2, 2)),) * 3, scale=0)


@pytest.mark.parametrize("bias", [None, (5, 7), (2, 1, 1, 7), (3, 5, 7), (2, 3, 5, 7)])
def test_gradients_by_differences(bias):
    """In float64 by the definitions, and as the steps of a plan compute them."""
    arrays = {"q": (2, 3, 5, 4), "k": (2, 3, 7, 4), "v": (2, 3, 7, 6)} | ({"bias": bias} if bias else {})
    arrays = {name: RNG.standard_normal(shape) for name, shape in arrays.items()}
    wanted, g = [*arrays], RNG.standard_normal((1, 180))
    shapes = {name: array.shape for name, array in arrays.items()} | {"g": g.shape}
    nodes = [
        node("Attention", tuple(wanted), "y", scale=0.4),
        node("Reshape", ("y",), "row", shape=(1, -1)),
        node("LinearLoss", ("row", "g"), "loss"),
    ]
    graph, grads, _ = differentiate(Graph(nodes, shapes, ["loss"], {}), shapes, "loss", wanted)
    defined = evaluate(graph, **arrays, g=g)
    for name, array in arrays.items():
        step = RNG.standard_normal(array.shape) * 1e-6
        high, low = (evaluate(graph, **{**arrays, "g": g, name: array + sign * step})["loss"] for sign in (1, -1))
        np.testing.assert_allclose((defined[grads[name]] * step).sum(), (high - low) / 2, rtol=1e-5, atol=1e-13)
    plan = compile_graph(Graph(graph.nodes, shapes, [grads[name] for name in wanted], {}), shapes)
    found = plan.run([array.astype(np.float32) for array in (*arrays.values(), g)])
    for name, got in zip(wanted, found, strict=True):
        np.testing.assert_allclose(got, defined[grads[name]], rtol=1e-4, atol=1e-4)


def heads_of(x):
    return x.reshape(len(x), -1, HEADS, SIZE // HEADS).swapaxes(1, 2)


def defined(layer, query, key, value, mask=None):
    """The layer in float64."""
    biases = np.zeros(3 * SIZE) if layer.in_proj_bias is None else layer.in_proj_bias
    weights = np.split(layer.in_proj_weight.astype(np.float64), 3)
    parts = [heads_of(x @ w.T + b) for x, w, b in zip((query, key, value), weights, np.split(biases, 3), strict=True)]
    mixed = reference.attention(*parts, mask).swapaxes(1, 2).reshape(query.shape)
    return reference.linear(mixed, layer.out_proj.weight, layer.out_proj.bias)


class Net(fc.Model):
    """Self-attention of tokens, or attention of a few tokens to all; with biases that differ from zero."""

    def __init__(self, crossed, bias=True):
        self.first = fc.MultiheadAttention(SIZE, HEADS, bias, rng=1)
        self.crossed = crossed
        if bias:
            self.first.in_proj_bias, self.first.out_proj.bias = drawn(3 * SIZE), drawn(SIZE)

    def forward(self, x):
        return self.first(F.clip(x, -1, 1), x, F.relu(x)) if self.crossed else self.first(x)


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_alone_and_traced_and_in_files(crossed, bias, tmp_path):
    net, x = Net(crossed, bias), drawn(4, 11, SIZE)
    operands = (np.clip(x, -1, 1), x, np.maximum(x, 0)) if crossed else (x,) * 3
    expected = defined(net.first, *operands)
    names = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    assert [name for name, _ in net.first.named_parameters()] == [n for n in names if bias or n.endswith("weight")]
    close(net.first(*operands), expected)
    close(net(x), expected)
    net.input_shape = x.shape[1:]
    for batch in (1, 3):
        close(net(x[:batch]), expected[:batch])
    net.export_onnx(tmp_path / "net.onnx")
    close(ReferenceEvaluator(onnx.load(tmp_path / "net.onnx")).run(None, {"x": x})[0], expected)
    close(fc.load(tmp_path / "net.onnx")(x), expected)


def test_layer_takes_masks():
    layer, x = fc.MultiheadAttention(SIZE, HEADS, rng=0), drawn(2, 6, SIZE)
    mask = np.tri(6, dtype=bool)
    close(layer(x, None, None, mask),
          defined(layer, x, x, x, np.where(mask, 0, -np.inf)))  # fmt: skip


@pytest.mark.parametrize("crossed", [False, True])
def test_it_learns(crossed):
    """The loss falls, and each of the three projections takes part."""
    net = Net(crossed)
    model = fc.Sequential(net, fc.Flatten(), fc.Linear(5 * SIZE, 2, rng=0))
    x, y = drawn(8, 5, SIZE), np.arange(8) % 2
    trainer = fc.Trainer(model, fc.SGD(0.05))
    losses = [trainer.step(x, y) for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]
    before = model.state_dict()
    values = [np.array(before[f"0.first.{name}"]) for name in ("in_proj_weight", "in_proj_bias")]
    trainer.step(x, y)
    for name, value in zip(("in_proj_weight", "in_proj_bias"), values, strict=True):
        change = np.abs(np.split(model.state_dict()[f"0.first.{name}"] - value, 3)).reshape(3, -1).max(1)
        assert (change > 1e-9).all() or name == "in_proj_bias"  # a bias of all keys changes no weight


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.MultiheadAttention(0, 1), "MultiheadAttention: embed_dim=0, expected a positive int"),
        (lambda: fc.MultiheadAttention(8, 3), "num_heads=3, expected a divisor of embed_dim=8"),
        (lambda: fc.MultiheadAttention(8, 2, batch_first=False), "batch_first=False, expected True"),
        (lambda: fc.MultiheadAttention(8, 2)(np.zeros((2, 8))), "query.shape=(2, 8), expected 3 dimensions"),
        (lambda: F.multi_head_attention(*(np.zeros((1, 2, 8)),) * 3, 3, None, None, None, None), "a divisor of"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
