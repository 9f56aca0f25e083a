"""Where layouts and halos meet in ways that are easy to get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from definitions import evaluate

import fastcnn
from fastcnn import functional as F
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.memory import Waits
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels.view import View


class FewChannels(fastcnn.Model):
    """x is read twice by one step: as a narrow block with halo, and as the residual."""

    def __init__(self):
        self.conv = fastcnn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


class ConcatWithHalo(fastcnn.Model):
    """Concatenations along each axis, read by convolutions with padding."""

    def __init__(self, axis):
        self.axis = axis
        self.stem = fastcnn.Conv2d(3, 16, 1)
        self.other = fastcnn.Conv2d(16, 16 if axis > 1 else 5, 3, padding=1)
        self.last = fastcnn.Conv2d(16 if axis > 1 else 21, 4, 3, padding=(2, 1, 0, 3))

    def forward(self, x):
        stem = self.stem(x)
        return self.last(F.concat([stem, self.other(stem)], self.axis))


class PadThenConv(fastcnn.Model):
    """The zeros of a Pad lie inside the halo of the convolution after it."""

    def __init__(self):
        self.stem = fastcnn.Conv2d(3, 10, 3)
        self.last = fastcnn.Conv2d(10, 7, 3, padding=1, stride=2)

    def forward(self, x):
        return self.last(F.pad(F.relu(self.stem(x)), (1, 0, 2, 1), value=-1.0))


class MatrixThenFlatten(fastcnn.Model):
    """Rows of a matrix product have gaps, unless somebody needs them without."""

    def __init__(self):
        self.linear = fastcnn.Linear(3 * 9 * 7, 13)

    def forward(self, x):
        y = self.linear(F.flatten(x))
        return F.concat([F.softmax(F.relu(y)), y * y + y], 0)


def assert_as_defined(model, seed, rtol, atol):
    """What the model computes of two small images is what its nodes are defined to, with several threads."""
    x = np.random.default_rng(seed).standard_normal((2, 3, 9, 7)).astype(np.float32)
    graph = model.graph((3, 9, 7))
    expected = evaluate(graph, x=x)[graph.outputs[0]]
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            for _ in range(2):  # the second run finds the arena as the first has left it
                np.testing.assert_allclose(model(x), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "model",
    [FewChannels(), *(ConcatWithHalo(axis) for axis in (1, 2, 3)), PadThenConv(), MatrixThenFlatten()],
    ids=lambda model: type(model).__name__,
)
def test_against_definition(model, isa, poisoned):
    assert_as_defined(model, seed=0, rtol=1e-5, atol=1e-5)


class Fire(fastcnn.Model):
    """As in SqueezeNet: both halves of the concatenation are computed in place."""

    def __init__(self):
        self.squeeze = fastcnn.Conv2d(3, 16, 1)
        self.expand1 = fastcnn.Conv2d(16, 32, 1)
        self.expand3 = fastcnn.Conv2d(16, 16, 3, padding=1)
        self.last = fastcnn.Conv2d(48, 8, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x)
        left, right = F.relu(self.expand1(x)), F.relu(self.expand3(x))
        return self.last(F.concat([left, right])) + 1.0


class Dense(fastcnn.Model):
    """As in DenseNet: concatenations of concatenations, whose parts are also read alone."""

    def __init__(self):
        self.convs = fastcnn.Sequential(*(fastcnn.Conv2d(16 * (i + 1), 16, 3, padding=1) for i in range(3)))
        self.stem = fastcnn.Conv2d(3, 16, 1)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.convs:
            x = F.concat([x, F.tanh(conv(x))])
        return F.concat([x * x, x, x])


@pytest.mark.parametrize("model", [Fire(), Dense()], ids=lambda model: type(model).__name__)
def test_concatenations_in_place(model, isa, poisoned):
    assert_as_defined(model, seed=1, rtol=1e-4, atol=1e-5)


def test_a_fire_module_copies_nothing():
    steps = compile_graph(Fire().graph((3, 9, 7)), {"x": (1, 3, 9, 7)}).steps
    assert "copy" not in {step.kernel for step in steps}


class Residual(fastcnn.Model):
    """As in ResNet: what a convolution adds is not read any more, or is, also by this convolution itself."""

    def __init__(self, channels, kernel, reads=""):
        self.stem = fastcnn.Conv2d(3, channels, 1)
        self.first = fastcnn.Conv2d(channels, channels, 1)
        self.last = fastcnn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.reads = reads

    def forward(self, x):
        x = self.stem(x)
        y = F.relu(self.last(x if self.reads == "itself" else self.first(x)) + x)
        return y * x if self.reads == "later" else y * y


@pytest.mark.parametrize("reads", ["", "itself", "later"])
@pytest.mark.parametrize("channels, kernel", [(5, 1), (24, 3), (40, 1), (40, 3), (300, 1)])
def test_residuals_in_place(channels, kernel, reads, isa, poisoned):
    assert_as_defined(Residual(channels, kernel, reads), seed=2, rtol=1e-4, atol=1e-4)


def test_a_residual_that_nobody_reads_any_more_takes_no_memory():
    def arena(reads):
        return compile_graph(Residual(64, 1, reads).graph((3, 28, 28)), {"x": (1, 3, 28, 28)}).arena_bytes

    assert arena("") < arena("later")


def test_steps_wait_only_for_memory_that_they_touch():
    def view(offset, **changes):
        return View(1, 8, 4, 4, 128, 128, 32, 8, offset=offset)._replace(**changes)

    waits = Waits()
    assert not waits.before([view(0)], [view(1000, slot=1)])
    assert not waits.before([view(128)], [view(1000, slot=1)])  # beside the first
    assert not waits.before([view(0, slot=2)], [view(256)])  # another memory
    assert waits.before([view(256)], [view(128)])  # reads what was written
    assert waits.before([view(128)], [view(512)])  # writes what was read
    assert waits.before([view(128)], [])  # writes what was written
    assert not waits.before([view(1024)], [])
    padded = view(700, halo=(1, 1, 1, 1), row=48, block=288, image=288)
    assert waits.before([padded._replace(offset=1200)], [])  # its halo reaches back into the last one
    repeated = View(2, 4, 4, 4, 0, 0, 0, 1, offset=2000)  # a single number for all
    assert not waits.before([view(3000)], [repeated])
    assert waits.before([view(2000 - 127)], [])


class Flattened(fastcnn.Model):
    """Rows of a matrix product that are still blocks of an image."""

    def __init__(self, channels, size):
        self.conv = fastcnn.Conv2d(3, channels, 3, padding=1, rng=1)
        self.linear = fastcnn.Linear(channels * size[0] * size[1], 10, rng=2)

    def forward(self, x):
        return self.linear(F.flatten(F.relu(self.conv(x))))


@pytest.mark.parametrize("channels", [32, 33])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (2, 1)])
def test_flattened_blocks(channels, size, isa, poisoned):
    model = Flattened(channels, size)
    x = np.random.default_rng(4).standard_normal((3, 3, *size)).astype(np.float32)
    graph = model.graph((3, *size))
    np.testing.assert_allclose(model(x), evaluate(graph, x=x)[graph.outputs[0]], rtol=1e-5, atol=1e-5)
    plan = compile_graph(graph, {"x": x.shape})
    reorders = [step.name for step in plan.steps if step.kernel == "reorder"]
    assert len(reorders) == (2 if channels % 16 == 0 or size == (1, 1) else 3)  # the input and the output


class FlattenedAndPadded(Flattened):
    """A value that is flattened and read with padding by another: its rows would have gaps."""

    def __init__(self, channels, size):
        super().__init__(channels, size)
        self.other = fastcnn.Conv2d(channels, 4, 3, padding=1, rng=3)

    def forward(self, x):
        y = F.relu(self.conv(x))
        return F.concat([self.linear(F.flatten(y)), F.flatten(self.other(y))], 1)


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_flattened_and_read_with_padding(size, isa, poisoned):
    model = FlattenedAndPadded(32, size)
    x = np.random.default_rng(5).standard_normal((2, 3, *size)).astype(np.float32)
    graph = model.graph((3, *size))
    np.testing.assert_allclose(model(x), evaluate(graph, x=x)[graph.outputs[0]], rtol=1e-5, atol=1e-5)


class FlattenedConcat(fastcnn.Model):
    """One part of what is flattened is read with padding, so that all of it is stored with a border."""

    def __init__(self, size):
        self.one = fastcnn.Conv2d(3, 32, 3, padding=1, rng=1)
        self.other = fastcnn.Conv2d(32, 32, 3, padding=1, rng=2)
        self.linear = fastcnn.Linear(64 * size[0] * size[1], 10, rng=3)

    def forward(self, x):
        one = F.relu(self.one(x))
        return self.linear(F.flatten(F.concat([one, self.other(one)], 1)))


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_flattened_concatenation(size, isa, poisoned):
    model = FlattenedConcat(size)
    x = np.random.default_rng(6).standard_normal((2, 3, *size)).astype(np.float32)
    graph = model.graph((3, *size))
    np.testing.assert_allclose(model(x), evaluate(graph, x=x)[graph.outputs[0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("last", [(), (fastcnn.Linear(33, 13, rng=2),)], ids=["images", "matrix"])
def test_rows_are_strung_together(last, isa, poisoned):
    """Rows with gaps between them, of 1 x 1 images and of a matrix product, become one row, in two places."""
    model = fastcnn.Sequential(fastcnn.Conv2d(3, 33, 1, rng=1), fastcnn.GlobalAvgPool2d(), fastcnn.Flatten(), *last)
    x = np.random.default_rng(7).standard_normal((2, 3, 5, 7)).astype(np.float32)
    graph = model.graph((3, 5, 7))
    rows, nodes = graph.outputs[0], list(graph.nodes)
    for name in ("Relu", "Tanh"):
        nodes += [
            Node("Flatten", f"{name}:row", (rows,), f"{name}:row", {"axis": 0}),
            Node(name, name, (f"{name}:row",), name, {}),
        ]
    graph = Graph(nodes, graph.inputs, ["Relu", "Tanh"], graph.constants)
    results = compile_graph(graph, {"x": x.shape}).run([x])
    expected = evaluate(graph, x=x)
    for result, name in zip(results, graph.outputs, strict=True):
        np.testing.assert_allclose(result, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 1, 1), (1, 32, 1, 1)])
def test_numbers_of_channels_stand_beside_blocked_images(shape):
    """Layer scale of a trained network: the number of each channel is no constant."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((32, 32, 1, 1), np.float32)}
    conv = ops.get("Conv").defaults
    nodes = [
        Node("Conv", "a", ("x", "w"), "a", conv),
        Node("Mul", "m", ("a", "s"), "m", {}),
        Node("Conv", "b", ("m", "w"), "y", conv),
    ]
    shapes = {"x": (2, 32, 5, 4), "s": shape}
    plan = compile_graph(Graph(nodes, shapes, ["y"], constants), shapes)
    moved = [step.name for step in plan.steps if step.kernel == "reorder"]
    assert not [name for name in moved if name.startswith(("a", "m"))]
    x, s = rng.standard_normal(shapes["x"], np.float32), rng.standard_normal(shape, np.float32)
    matrix = constants["w"][:, :, 0, 0]
    images = np.einsum("oi,nihw->nohw", matrix, x) * s.reshape(1, 32, 1, 1)
    np.testing.assert_allclose(plan.run([x, s])[0], np.einsum("oi,nihw->nohw", matrix, images), rtol=1e-3, atol=1e-3)


def test_sums_to_channels_read_blocked_images():
    conv = ops.get("Conv").defaults
    x = np.random.default_rng(1).standard_normal((3, 20, 5, 4), np.float32)
    nodes = [Node("Conv", "a", ("x", "w"), "a", conv), Node("SumTo", "s", ("a",), "y", {"shape": (20, 1, 1)})]
    constants = {"w": np.eye(20, dtype=np.float32).reshape(20, 20, 1, 1)}
    plan = compile_graph(Graph(nodes, {"x": x.shape}, ["y"], constants), {"x": x.shape})
    assert "channelsum" in [step.kernel for step in plan.steps]
    np.testing.assert_allclose(plan.run([x])[0], x.sum((0, 2, 3)).reshape(20, 1, 1), rtol=1e-4, atol=1e-4)
