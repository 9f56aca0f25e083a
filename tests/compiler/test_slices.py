"""Tests of slices and bands: the same bits as of uncut layers, and only where nobody else needs what lies between."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.compiler import plan, slices
from fastcnn.compiler.compile import compile_graph
from fastcnn.kernels import _bands, _cpu
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
        return self.project(self.depthwise(between) * between)


class Reader(fastcnn.Model):
    """A convolution, and a depthwise one or a pooling with these settings."""

    def __init__(self, conv: dict, depthwise: dict, pool: dict, act=F.relu) -> None:
        self.conv, self.act, self.pool = Conv2d(3, 64, rng=0, algorithm="direct", **conv), act, pool
        self.depthwise = Conv2d(64, 64, groups=64, rng=1, **depthwise) if depthwise else None
        self.project = Conv2d(64, 5, 1, rng=2)
        self.input_shape = SHAPE

    def forward(self, x):
        x = self.act(self.conv(x))
        return self.project(self.depthwise(x) if self.depthwise else F.max_pool2d(x, **self.pool))


READERS = {
    "3x3": ({"kernel_size": 1}, {"kernel_size": 3, "padding": 1}, {}),
    "3x3 with stride, of 3x3 with stride": (
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {},
    ),
    "5x5": ({"kernel_size": 3}, {"kernel_size": 5, "padding": 2}, {}),
    "5x5 with stride": ({"kernel_size": 1, "padding": 2}, {"kernel_size": 5, "stride": 3, "padding": 1}, {}),
    "3x3 with dilation": ({"kernel_size": 1}, {"kernel_size": 3, "dilation": 2, "padding": (2, 1)}, {}),
    "larger stride than window": ({"kernel_size": 1}, {"kernel_size": 2, "stride": 4}, {}),
    "1x1": ({"kernel_size": 1}, {"kernel_size": 1}, {}),
    "pool": ({"kernel_size": 1}, {}, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "pool without padding": ({"kernel_size": 3, "padding": 1}, {}, {"kernel_size": 3, "stride": 2}),
    "pool beyond the image": ({"kernel_size": 1}, {}, {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    "pool, row by row": ({"kernel_size": 1}, {}, {"kernel_size": (3, 2), "stride": 1, "padding": 1}),
}


def compiled(model: fastcnn.Model, batch: int, whole: bool = False) -> plan.Plan:
    return compile_graph(model.graph(), {"x": (batch, *SHAPE)}, whole=whole)


def steps_of(kernel: str, found: plan.Plan) -> int:
    return sum(step.kernel == kernel for step in found.steps)


@pytest.fixture
def small_cache(monkeypatch):
    """Slices are single pairs of blocks, bands as narrow as can be."""
    monkeypatch.setattr(slices, "LARGE_BYTES", 1000)
    monkeypatch.setattr(slices, "WINDOW_VECTORS", 100)
    monkeypatch.setattr(_bands, "WINDOW_VECTORS", 100)


@pytest.mark.parametrize("window", [100, 300, 1 << 20])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reader", READERS)
def test_bands_give_the_bits_of_whole_layers(reader, batch, window, isa, poisoned, small_cache, monkeypatch):
    monkeypatch.setattr(_bands, "WINDOW_VECTORS", window)  # bands of two rows, some rows, all
    model = Reader(*READERS[reader])
    x = np.random.default_rng(3).standard_normal((batch, *SHAPE)).astype(np.float32)
    cut, whole = compiled(model, batch), compiled(model, batch, whole=True)
    kernel = "pool" if READERS[reader][2] else "depthwise"
    assert steps_of(kernel, whole) == 1 and steps_of(kernel, cut) == 0
    assert steps_of(f"direct + {kernel}", cut) == 64 // (2 * _cpu.vector_length())
    assert cut.operations == whole.operations and cut.arena_bytes < whole.arena_bytes
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            (expected,), (result,) = whole.run([x]), cut.run([x])
            np.testing.assert_array_equal(result, expected)


def test_normalised_blocks_give_the_bits_of_whole_layers(isa, poisoned, small_cache):
    """Scales that folding left beside the filters are cut, too."""
    model, x = Net(stride=2), np.random.default_rng(3).standard_normal((2, *SHAPE)).astype(np.float32)
    cut, whole = compiled(model, 2), compiled(model, 2, whole=True)
    assert steps_of("direct + depthwise", cut) == 96 // (2 * _cpu.vector_length())
    np.testing.assert_array_equal(cut.run([x])[0], whole.run([x])[0])


def test_layers_that_stay_whole(small_cache):
    assert steps_of("depthwise", compiled(Shared(), 1)) == 1  # somebody else reads what lies between
    assert steps_of("depthwise", compiled(Net(98), 1)) == 1  # the last block is partial
    kernels = [step.kernel for step in compiled(Net(96, groups=1), 1).steps]
    assert "depthwise" not in kernels and len(kernels) == len(compiled(Net(96, groups=1), 1, whole=True).steps)


@pytest.mark.parametrize("act", [F.hardswish, F.leaky_relu, lambda x: F.clip(x, -1.0, 1.0), lambda x: x])
def test_zeros_are_no_padding_where_maxima_may_be_negative(act, small_cache):
    conv, _, pool = READERS["pool"]
    assert steps_of("pool", compiled(Reader(conv, {}, pool, act), 1)) == 1
    conv, _, pool = READERS["pool without padding"]
    assert steps_of("pool", compiled(Reader(conv, {}, pool, act), 1)) == 0


def test_small_layers_stay_whole():
    assert steps_of("depthwise", compiled(Net(), 1)) == 1


def test_summary_profile_and_tuning_know_slices(small_cache):
    model = Net()
    rows = {row.name: row for row in model.summary().rows}
    assert rows["expand"].kernel == "direct + depthwise" and rows["depthwise"].kernel == "in expand"
    x = np.ones((1, *SHAPE), np.float32)
    profile = model.profile(x, repeats=1)
    names = [step.name for step in profile.steps]
    assert "expand" in names and any(name.startswith("expand[") for name in names)
    assert sum(step.operations for step in profile.steps) == compiled(model, 1).operations
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
