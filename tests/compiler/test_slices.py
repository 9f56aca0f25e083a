"""Tests of slices: the same bits as of whole layers, and only where nobody else needs what lies between."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.compiler import plan, slices
from fastcnn.compiler.plan import compile_graph
from fastcnn.kernels import _cpu
from fastcnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear

SHAPE = (3, 11, 13)


class Net(fastcnn.Model):
    """An inverted residual block."""

    def __init__(self, channels: int = 96, stride: int = 1, groups: int = 0) -> None:
        self.expand = Conv2d(3, channels, 1, bias=False, rng=0)
        self.norm = BatchNorm2d(channels)
        self.norm.running_var = np.linspace(0.5, 2, channels)
        self.depthwise = Conv2d(channels, channels, 3, stride, padding=1, groups=groups or channels, rng=1)
        self.norm2 = BatchNorm2d(channels)
        self.norm2.running_mean = np.linspace(-1, 1, channels)
        self.project = Conv2d(channels, 5, 1, rng=2)
        self.input_shape = SHAPE

    def between(self, x):
        return F.relu6(self.norm(self.expand(x)))

    def forward(self, x):
        return self.project(F.relu6(self.norm2(self.depthwise(self.between(x)))))


class Shared(Net):
    """What lies between is read twice."""

    def forward(self, x):
        between = self.between(x)
        return self.project(self.depthwise(between) + between)


class Pooled(Net):
    """A pooling reads what lies between."""

    def forward(self, x):
        return self.project(F.max_pool2d(self.between(x), 3, 2, padding=1))


def compiled(model: fastcnn.Model, batch: int, whole: bool = False) -> plan.Plan:
    return compile_graph(model.graph(), {"x": (batch, *SHAPE)}, whole=whole)


def steps_of(kernel: str, found: plan.Plan) -> int:
    return sum(step.kernel == kernel for step in found.steps)


def depthwise_steps(found: plan.Plan) -> int:
    return steps_of("depthwise", found)


@pytest.fixture
def small_cache(monkeypatch):
    monkeypatch.setattr(slices, "LARGE_BYTES", 1000)
    monkeypatch.setattr(slices, "SLICE_BYTES", 1000)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["depthwise", "depthwise with stride", "pool"])
def test_slices_give_the_bits_of_whole_layers(kind, batch, isa, poisoned, small_cache):
    """Slices are pairs of blocks."""
    model = Pooled() if kind == "pool" else Net(stride=2 if "stride" in kind else 1)
    x = np.random.default_rng(3).standard_normal((batch, *SHAPE)).astype(np.float32)
    cut, whole = compiled(model, batch), compiled(model, batch, whole=True)
    kernel = kind.split()[0]
    assert steps_of(kernel, whole) == 1 and steps_of(kernel, cut) == 96 // (2 * _cpu.vector_length())
    assert cut.operations == whole.operations and cut.arena_bytes < whole.arena_bytes
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            (expected,), (result,) = whole.run([x]), cut.run([x])
            np.testing.assert_array_equal(result, expected)


def test_layers_that_stay_whole(small_cache):
    assert depthwise_steps(compiled(Shared(), 1)) == 1  # somebody else reads what lies between
    assert depthwise_steps(compiled(Net(98), 1)) == 1  # the last block is not whole
    kernels = [step.kernel for step in compiled(Net(96, groups=1), 1).steps]
    assert "depthwise" not in kernels and len(kernels) == len(compiled(Net(96, groups=1), 1, whole=True).steps)


def test_small_layers_stay_whole():
    assert depthwise_steps(compiled(Net(), 1)) == 1


def test_summary_profile_and_tuning_know_slices(small_cache):
    model = Net()
    rows = {row.name: row for row in model.summary().rows}
    assert rows["expand"].kernel == "direct" and rows["depthwise"].kernel == "depthwise"
    x = np.ones((1, *SHAPE), np.float32)
    steps = [step.name for step in model.profile(x, repeats=1).steps]
    assert "expand" in steps and any(name.startswith("expand[") for name in steps)
    times = model.tune(x, repeats=1)
    assert len(times) == 3 and all("direct" in candidates for candidates in times.values())


def test_a_cut_network_learns(small_cache):
    class Classifier(fastcnn.Model):
        def __init__(self):
            self.body, self.pool, self.head = Net(), GlobalAvgPool2d(), Linear(5, 2)
            self.input_shape = SHAPE

        def forward(self, x):
            return self.head(F.flatten(self.pool(self.body(x))))

    model = Classifier()
    x = np.random.default_rng(5).standard_normal((4, *SHAPE)).astype(np.float32)
    before = model(x)
    fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.1)).step(x, np.array([0, 1, 0, 1]))
    assert not np.array_equal(model(x), before)
