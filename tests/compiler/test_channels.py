"""Layers of tokens as layers of images: results are those of the definitions, and what moves nothing takes no step."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from definitions import evaluate

import fastcnn
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node

MOVES = {"transpose", "copy", "move", "reorder", "slice"}


class Tokens:
    """Graphs of tokens (N, L, C) that begin as an image of 3 channels."""

    def __init__(self, rng, count=2, size=(6, 8), channels=24):
        self.rng, self.nodes, self.constants = rng, [], {}
        self.shapes = {"x": (count, 3, *size)}
        self.count, self.size = count, size
        self.image = self.add("Conv", "x", self.constant(channels, 3, 3, 3), pads=(1, 1, 1, 1))
        self.tokens = self.of_image(self.image)

    def constant(self, *shape):
        name = f"c{len(self.constants)}"
        self.constants[name] = self.rng.uniform(-0.4, 0.5, shape).astype(np.float32)
        self.shapes[name] = shape
        return name

    def add(self, op, *inputs, **attrs):
        full = {**ops.get(op).defaults, **attrs}
        output = f"v{len(self.nodes)}"
        self.shapes[output] = ops.get(op).infer(full, [self.shapes[name] for name in inputs])
        self.nodes.append(Node(op, f"n{len(self.nodes)}", inputs, output, full))
        return output

    def of_image(self, image):
        count, channels, *_ = self.shapes[image]
        return self.add("Transpose", self.add("Reshape", image, shape=(count, channels, -1)), perm=(0, 2, 1))

    def linear(self, x, outs, bias=True):
        weight = self.constant(outs, self.shapes[x][-1])
        return self.add("Gemm", x, weight, *([self.constant(outs)] if bias else []))

    def windows(self, x, side=2):
        """Tokens (N, H * W, C) as those of windows of side x side, and what brings them back."""
        (count, _, channels), (height, width) = self.shapes[x], self.size
        split = (count, height // side, side, width // side, side, channels)
        apart = self.add("Transpose", self.add("Reshape", x, shape=split), perm=(0, 1, 3, 2, 4, 5))
        return self.add("Reshape", apart, shape=(-1, side * side, channels))

    def of_windows(self, x, side=2):
        (*_, channels), (height, width) = self.shapes[x], self.size
        split = (self.count, height // side, width // side, side, side, channels)
        apart = self.add("Transpose", self.add("Reshape", x, shape=split), perm=(0, 1, 3, 2, 4, 5))
        return self.add("Reshape", apart, shape=(self.count, height * width, channels))

    def graph(self, output):
        return Graph(self.nodes, {"x": self.shapes["x"]}, [output], self.constants)


def check(graph, moves=None):
    """Right results, the same for any number of threads; with the expected number of copies, if it is given."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(graph.inputs["x"], np.float32)
    plan = compile_graph(graph, graph.inputs)
    wanted = evaluate(graph, x=x)[graph.outputs[0]]
    results = []
    for threads in THREADS:
        with fastcnn.num_threads(threads):
            results.append(plan.run([x])[0])
    np.testing.assert_allclose(results[0], wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())
    assert all((result == results[0]).all() for result in results)
    if moves is not None:
        assert sum(step.kernel in MOVES for step in plan.steps) == moves
    return plan


def test_a_block_between_transposes_takes_no_copy(isa):
    net = Tokens(np.random.default_rng(1))
    hidden = net.add("Gelu", net.linear(net.tokens, 40))
    scaled = net.add("Mul", net.linear(hidden, 24), net.constant(24))
    back = net.add("Reshape", net.add("Transpose", scaled, perm=(0, 2, 1)), shape=net.shapes[net.image])
    check(net.graph(net.add("Add", back, net.image)), moves=2)


def test_windows_and_the_way_back_are_one_step_each(isa):
    net = Tokens(np.random.default_rng(2))
    inside = net.linear(net.windows(net.tokens), 40)
    result = net.linear(net.of_windows(inside), 8)
    plan = check(net.graph(net.add("GlobalAveragePool", net.add("Reshape", result, shape=(2, 1, 48, 8)))))
    assert [step.kernel for step in plan.steps].count("move") == 2


def test_one_token_is_taken_from_the_image(isa):
    net = Tokens(np.random.default_rng(3))
    last = net.add("Slice", net.linear(net.tokens, 40), axis=1, start=5, end=6)
    plan = check(net.graph(net.linear(net.add("Reshape", last, shape=(2, 40)), 7)))
    assert sum(step.kernel == "transpose" for step in plan.steps) == 0


def test_a_class_token_and_places_are_added_to_images(isa):
    net = Tokens(np.random.default_rng(4))
    joined = net.add("Concat", net.constant(2, 1, 24), net.tokens, axis=1)
    placed = net.add("Add", joined, net.constant(1, 49, 24))
    plan = check(net.graph(net.add("Slice", net.linear(placed, 17), axis=1, start=0, end=1)))
    assert sum(step.kernel == "transpose" for step in plan.steps) == 0


def random_net(rng):
    sizes = [(4, 6), (6, 8), (2, 2), (8, 2), (1, 4)]
    size = sizes[rng.integers(len(sizes))]
    net = Tokens(rng, int(rng.integers(1, 4)), size, int(rng.choice([3, 8, 17, 32])))
    x = net.tokens
    for _ in range(int(rng.integers(2, 9))):
        count, length, channels = net.shapes[x]
        kind = rng.choice(["linear", "norm", "act", "residual", "scale", "places", "windows", "token", "part", "turn"])
        even = size[0] % 2 == size[1] % 2 == 0 and length == size[0] * size[1]
        if kind == "linear":
            x = net.linear(x, int(rng.choice([5, 16, 33])), bool(rng.integers(2)))
        elif kind == "norm":
            x = net.add("LayerNormalization", x, net.constant(channels), net.constant(channels))
        elif kind == "act":
            x = net.add(str(rng.choice(["Relu", "Gelu", "Tanh"])), x)
        elif kind == "residual":
            x = net.add("Add", x, net.linear(x, channels))
        elif kind == "scale":
            x = net.add("Mul", x, net.constant(*([channels], [1], [1, 1, channels])[rng.integers(3)]))
        elif kind == "places":
            x = net.add("Add", x, net.constant(1, length, channels))
        elif kind == "windows" and even:
            x = net.of_windows(net.linear(net.windows(x), channels))
        elif kind == "token":
            x = net.add("Concat", net.constant(count, 1, channels), x, axis=1)
        elif kind == "part" and length > 1:
            x = net.add(
                "Slice", x, axis=1, start=int(rng.integers(length - 1)), end=length, step=int(rng.integers(1, 3))
            )
        elif kind == "turn":
            x = net.add("Transpose", net.linear(net.add("Transpose", x, perm=(0, 2, 1)), length), perm=(0, 2, 1))
    ends = {
        "tokens": lambda: x,
        "image": lambda: net.add(
            "Reshape", net.add("Transpose", x, perm=(0, 2, 1)), shape=(net.count, -1, 1, net.shapes[x][1])
        ),
        "rows": lambda: net.add("Flatten", x),
        "first": lambda: net.add("Reshape", net.add("Slice", x, axis=1, start=0, end=1), shape=(net.count, -1)),
    }
    return net.graph(ends[str(rng.choice([*ends]))]())


def test_random_nets_of_tokens(isa, poisoned, budget):
    for seed in range(budget(25, 1000)):
        check(random_net(np.random.default_rng(seed)))


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_weights_that_change_multiply_rows(isa, rank):
    shape = (2, 3, 4, 5, 6)[: rank - 1]
    nodes = [Node("Gemm", "a", ("x", "w", "b"), "y", {})]
    graph = Graph(nodes, {"x": (*shape, 7), "w": (9, 7), "b": (9,)}, ["y"], {})
    rng = np.random.default_rng(rank)
    arrays = {name: rng.standard_normal(size, np.float32) for name, size in graph.inputs.items()}
    (got,) = compile_graph(graph, graph.inputs).run([*arrays.values()])
    np.testing.assert_allclose(got, arrays["x"] @ arrays["w"].T + arrays["b"], atol=1e-5)


@pytest.mark.parametrize("shape", [(18, 1, 10), (3, 1, 1, 10), (1, 1, 10), (1, 18, 10)])
def test_single_tokens_of_a_sequence_are_the_pixels_of_one_image(shape):
    """A sequence (L, N, C), its steps first, of a single image."""
    nodes = [
        Node("Gemm", "a", ("x", "w"), "y", {}),
        Node("Transpose", "t", ("y",), "z", {"perm": (1, 0, *range(2, len(shape)))}),
    ]
    graph = Graph(nodes, {"x": shape}, ["z"], {"w": np.linspace(-1, 1, 70, dtype=np.float32).reshape(7, 10)})
    check(graph)
