"""Batches cut into parts: the same bits as image by image, whatever the threads; never where images meet."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import ops
from fastcnn.compiler import batch, plan
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _step

SHAPE = (3, 20, 18)


def network() -> fastcnn.Model:
    """All kinds of steps, and fully connected layers of few and of many outputs."""
    return fastcnn.Sequential(
        fastcnn.Conv2d(3, 16, 3, padding=1),
        fastcnn.ReLU(),
        fastcnn.MaxPool2d(2),
        fastcnn.BatchNorm2d(16),
        fastcnn.Conv2d(16, 16, 3, padding=1, groups=16),
        fastcnn.Conv2d(16, 40, 3, stride=2),
        fastcnn.Sigmoid(),
        fastcnn.Flatten(),
        fastcnn.Linear(40 * 4 * 4, 70),
        fastcnn.Tanh(),
        fastcnn.Linear(70, 10),
        fastcnn.Softmax(),
    )


@pytest.mark.parametrize("images", [1, 2, 4])
@pytest.mark.parametrize("size", [2, 3, 8, 16, 17, 24])
def test_bits_are_those_of_single_images(size, images, isa, poisoned, monkeypatch):
    monkeypatch.setattr(batch, "part_size", lambda size, *_: images if size % images == 0 else 1)
    model = network()
    x = np.random.default_rng(0).standard_normal((size, *SHAPE)).astype(np.float32)
    with fastcnn.num_threads(1):
        single = np.concatenate([model(x[i : i + 1]) for i in range(size)])
    for threads in (1, 2, 3, 4, 7, 8, 16):
        with fastcnn.num_threads(threads):
            assert np.array_equal(model(x), single), threads
    parts = model._compiled(size, x).plan.parts
    assert parts == (1 if size < 2 * batch.LEAST_PARTS else size // images if size % images == 0 else size)


def mobile_network() -> fastcnn.Model:
    """Depthwise convolutions, few features at the end, and an even number of classes."""
    return fastcnn.Sequential(
        fastcnn.Conv2d(3, 24, 3, stride=2),
        fastcnn.ReLU6(),
        fastcnn.Conv2d(24, 24, 3, padding=1, groups=24),
        fastcnn.SiLU(),
        fastcnn.Conv2d(24, 33, 1),
        fastcnn.GlobalAvgPool2d(),
        fastcnn.Flatten(),
        fastcnn.Linear(33, 2),
    )


def rows_network() -> fastcnn.Model:
    """Fully connected layers only, of odd and of many outputs."""
    return fastcnn.Sequential(
        fastcnn.Flatten(),
        fastcnn.Linear(3 * 20 * 18, 300),
        fastcnn.ReLU(),
        fastcnn.Linear(300, 7),
        fastcnn.Sigmoid(),
        fastcnn.Linear(7, 5),
    )


def small_planes_network() -> fastcnn.Model:
    """Weights take longer to read than to multiply with: for a batch another algorithm pays."""
    return fastcnn.Sequential(
        fastcnn.AvgPool2d(2),
        fastcnn.Conv2d(3, 64, 3, padding=1),
        fastcnn.MaxPool2d(2, padding=1),
        fastcnn.Conv2d(64, 64, 3, padding=1),
        fastcnn.GlobalAvgPool2d(),
        fastcnn.Flatten(),
        fastcnn.Linear(64, 3),
    )


@pytest.mark.parametrize("build", [network, mobile_network, rows_network, small_planes_network])
def test_bits_do_not_depend_on_batch_size_and_place(build, isa, monkeypatch):
    monkeypatch.setattr(plan, "OPERATIONS_PER_THREAD", 1)
    monkeypatch.setattr(_step, "PIECE_VECTORS", 1)
    model, rng = build(), np.random.default_rng(3)
    model.reproducible = True
    x = rng.standard_normal((17, *SHAPE)).astype(np.float32)
    single = model.predict_proba(x, batch_size=1)
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            for batch_size in (1, 2, 3, 8, 17):  # the last batch has what is left
                assert np.array_equal(model.predict_proba(x, batch_size), single), (threads, batch_size)
                order = rng.permutation(17)
                assert np.array_equal(model.predict_proba(x[order], batch_size), single[order]), (threads, batch_size)


def test_batches_may_take_other_algorithms_unless_reproducible(isa):
    model, rng = small_planes_network(), np.random.default_rng(4)
    x = rng.standard_normal((9, *SHAPE)).astype(np.float32)

    def kernels(count: int) -> list[str]:
        return [step.kernel for step in model._compiled(count, x[:count]).plan.steps if step.problem]

    assert not model.reproducible
    freely, chosen = model(x), kernels(9)
    assert chosen == kernels(4) and (chosen == kernels(1)) == (isa == "generic")  # which multiplies slowly
    model.reproducible = True
    assert kernels(9) == kernels(1) == kernels(4)
    np.testing.assert_allclose(model(x), freely, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model(x), np.concatenate([model(image[None]) for image in x]))


@pytest.mark.parametrize("size", [1, 3, 9])
def test_bits_never_depend_on_place_and_threads(size, isa, monkeypatch):
    monkeypatch.setattr(plan, "OPERATIONS_PER_THREAD", 1)
    monkeypatch.setattr(_step, "PIECE_VECTORS", 1)
    model, rng = small_planes_network(), np.random.default_rng(5)
    x = rng.standard_normal((size, *SHAPE)).astype(np.float32)
    expected = model(x)
    for threads in (1, 2, 3, 8):
        with fastcnn.num_threads(threads):
            order = rng.permutation(size)
            np.testing.assert_array_equal(model(x[order]), expected[order])


def test_concurrent_callers_share_a_model(isa):
    from concurrent.futures import ThreadPoolExecutor

    model = network()
    x = np.random.default_rng(1).standard_normal((16, *SHAPE)).astype(np.float32)
    expected = model(x)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: model(x), range(64)):
            assert np.array_equal(result, expected)


class Meeting(fastcnn.Model):
    """Images meet, in one of several ways."""

    def __init__(self, way):
        self.way = way
        self.weights = fastcnn.layers.Parameter(np.arange(16, dtype=np.float32).reshape(16, 1, 1, 1))

    def forward(self, x):
        if self.way == "concat":
            return F.concat([x, x], 0)
        if self.way == "softmax":
            return F.softmax(x, 0)
        return x * self.weights


@pytest.mark.parametrize("way", ["concat", "softmax", "constant"])
def test_images_that_meet_stay_together(way):
    model = Meeting(way)
    x = np.random.default_rng(2).standard_normal((16, 2, 3, 3)).astype(np.float32)
    graph = model.graph((2, 3, 3)) if way != "constant" else None
    if graph is not None:
        assert not batch.is_separable(graph, {"x": x.shape})
    expected = {
        "concat": lambda: np.concatenate([x, x]),
        "constant": lambda: x * model.weights,
        "softmax": lambda: np.exp(x) / np.exp(x).sum(0),
    }[way]()
    np.testing.assert_allclose(model(x), expected, rtol=1e-5)


def test_sizes_of_parts():
    for size in (8, 12, 17, 64):
        for arena, weights in ((10, 10), (10**6, 10**6), (10**7, 10**9), (10**8, 0)):
            part = batch.part_size(size, arena, weights)
            assert size % part == 0 and (part == size or size // part >= batch.LEAST_PARTS)


def test_a_constant_of_the_size_of_the_batch_keeps_images_together():
    """With any size but one, images cannot be told apart."""
    for size in (2, 4):
        constant = np.ones((size, 3), np.float32)
        graph = Graph(
            [Node("Add", "sum", ("x", "c"), "y", ops.get("Add").defaults)], {"x": (None, 3)}, ["y"], {"c": constant}
        )
        assert not batch.is_separable(graph, {"x": (4, 3)})
