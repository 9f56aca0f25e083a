"""Training of layers of tokens: as images they learn what they learn as rows, bit for bit on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS

import fastcnn as fc
import fastcnn.functional as F
from fastcnn.compiler.channels import channels_first_for_training
from fastcnn.layers import Layer, Parameter
from fastcnn.training import step


class Block(Layer):
    """A depthwise convolution, then layers over the last axis of (N, H, W, C), as ConvNeXt has them."""

    def __init__(self, channels, dropout, rng):
        self.dw = fc.Conv2d(channels, channels, 3, padding=1, groups=channels, rng=rng)
        self.norm, self.drop = fc.LayerNorm(channels), fc.Dropout(dropout)
        self.fc1, self.fc2 = fc.Linear(channels, 2 * channels, rng=rng), fc.Linear(2 * channels, channels, rng=rng)
        self.gamma = Parameter(np.full(channels, 0.5, np.float32))
        self.path, self.act = fc.DropPath(dropout), fc.GELU()

    def forward(self, x):
        y = self.norm(F.permute(self.dw(x), (0, 2, 3, 1)))
        y = self.drop(self.fc2(self.act(self.fc1(y)))) * self.gamma
        return x + self.path(F.permute(y, (0, 3, 1, 2)))


class Attending(Layer):
    """Attention among tokens (N, L, C), with a bias that is trained; `few`: the keys are those of half the tokens."""

    def __init__(self, channels, heads, few, rng):
        self.heads, self.few, self.norm = heads, few, fc.LayerNorm(channels)
        self.q, self.kv = fc.Linear(channels, channels, rng=rng), fc.Linear(channels, 2 * channels, rng=rng)
        self.bias = Parameter(rng.standard_normal((heads, 24, 12 if few else 24)).astype(np.float32))
        self.proj = fc.Linear(channels, channels, rng=rng)

    def forward(self, x):
        y, (_, tokens, channels) = self.norm(x), x.shape
        few = F.narrow(y, 1, 6, 12) if self.few else y
        size = (self.heads, channels // self.heads)
        q = F.permute(F.reshape(self.q(y), (-1, tokens, *size)), (0, 2, 1, 3))
        kv = F.permute(F.reshape(self.kv(few), (-1, few.shape[1], 2 * size[0], size[1])), (0, 2, 1, 3))
        k, v = (F.narrow(kv, 1, part * self.heads, self.heads) for part in (0, 1))
        y = F.scaled_dot_product_attention(q, k, v, self.bias)
        return x + self.proj(F.reshape(F.permute(y, (0, 2, 1, 3)), (-1, tokens, channels)))


class Tokens(Layer):
    """Pixels as tokens (N, L, C)."""

    def forward(self, x):
        return F.permute(F.reshape(x, (-1, x.shape[1], x.shape[2] * x.shape[3])), (0, 2, 1))


class Pixels(Layer):
    """Tokens (N, L, C) as pixels."""

    def forward(self, x):
        return F.reshape(F.permute(x, (0, 2, 1)), (-1, x.shape[2], 6, 4))


def attentive():
    rng = np.random.default_rng(0)
    blocks = [Attending(24, 3, few, rng) for few in (False, True)]
    first, last = fc.Conv2d(3, 24, 2, stride=2, rng=rng), fc.Linear(24, 3, rng=rng)
    return fc.Sequential(first, Tokens(), *blocks, Pixels(), fc.GlobalAvgPool2d(), fc.Flatten(), last)


def network(dropout=0.0):
    rng = np.random.default_rng(0)
    blocks = [Block(12, dropout, rng) for _ in range(2)]
    return fc.Sequential(
        fc.Conv2d(3, 12, 2, stride=2, rng=rng), *blocks, fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(12, 3, rng=rng)
    )


def learnt(model, steps=3):
    """The losses of some steps, and the parameters behind them."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4, 3, 12, 8)).astype(np.float32), np.array([0, 1, 2, 1])
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    losses = [trainer.step(x, y) for _ in range(steps)]
    return losses, {name: array.copy() for name, array in model.state_dict().items()}


@pytest.mark.parametrize("network", [network, attentive])
def test_images_learn_what_rows_learn(network, isa, monkeypatch):
    losses, arrays = learnt(network())
    monkeypatch.setattr(step, "channels_first_for_training", lambda graph, sizes, trained: graph)
    others, wanted = learnt(network())
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for name, array in wanted.items():
        np.testing.assert_allclose(arrays[name], array, rtol=0, atol=2e-5 * max(1.0, np.abs(array).max()), err_msg=name)


@pytest.mark.parametrize("network", [network, attentive])
def test_every_parameter_learns(network):
    model = network()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    _, after = learnt(model, 1)
    assert [name for name, array in before.items() if (array == after[name]).all()] == []


@pytest.mark.parametrize("network", [network, attentive])
def test_the_same_bits_for_any_number_of_threads(network):
    found = []
    for threads in THREADS:
        with fc.num_threads(threads):
            found.append(learnt(network())[1])
    for name, array in found[0].items():
        assert all((other[name] == array).all() for other in found[1:]), name


@pytest.mark.parametrize("layer", ["drop", "path"])
def test_dropout_is_at_work(layer):
    plain, dropped = learnt(network(), 1)[0], network(0.5)
    for block in (dropped[1], dropped[2]):
        setattr(block, "path" if layer == "drop" else "drop", fc.Dropout(0.0))
    assert learnt(dropped, 1)[0] != plain


def test_attention_learns_on_images():
    model = attentive()
    graph = model.graph((3, 12, 8))
    (x,) = graph.inputs
    shapes = graph.infer({x: (4, 3, 12, 8)})
    found = channels_first_for_training(graph, shapes, {*model.state_dict()})
    assert [node.op for node in found.nodes].count("HeadAttention") == 2
