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

    def attention(self, x, heads=2, order="whdl", mask=False):
        """Self-attention with a residual; `order` is how the channels of q, k and v lie."""
        count, length, channels = self.shapes[x]
        width = channels // heads
        qkv = self.linear(x, 3 * channels)
        if order == "whdl":  # which of the three, head, channel of the head
            split = self.add("Reshape", qkv, shape=(count, length, 3, heads, width))
            turned = self.add("Transpose", split, perm=(2, 0, 3, 1, 4))
            parts = [self.add("Slice", turned, axis=0, start=i, end=i + 1) for i in range(3)]
        else:
            split = self.add("Reshape", qkv, shape=(count, length, heads, 3 * width))
            turned = self.add("Transpose", split, perm=(0, 2, 1, 3))
            parts = [self.add("Slice", turned, axis=3, start=i * width, end=(i + 1) * width) for i in range(3)]
        q, k, v = (self.add("Reshape", part, shape=(count, heads, length, width)) for part in parts)
        keys = self.add("Transpose", k, perm=(0, 1, 3, 2))
        scores = self.add("MatMul", self.add("Mul", q, self.constant(1)), keys)
        if mask:
            scores = self.add("Add", scores, self.constant(1, heads, length, length))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        rows = self.add("Reshape", self.add("Transpose", mixed, perm=(0, 2, 1, 3)), shape=(count, length, channels))
        return self.add("Add", x, self.linear(rows, channels))

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
    np.testing.assert_allclose(results[0], wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
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


LAYERS = ["linear", "norm", "act", "residual", "scale", "places", "attention", "mean"]
KINDS = [*LAYERS, "windows", "token", "part", "turn"]


@pytest.mark.parametrize("order", ["whdl", "hwdl"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_attention_reads_its_operands_where_they_lie(isa, order, mask, count):
    net = Tokens(np.random.default_rng(5), count, (4, 5), 32)
    plan = check(net.graph(net.linear(net.attention(net.tokens, 2, order, mask), 7)))
    kernels = [step.kernel for step in plan.steps]
    assert kernels.count("attention") == 1
    assert not {"matmul", "softmax", "move"} & {*kernels}
    assert kernels.count("transpose") == 1  # the output


def test_single_tokens_have_masks_of_their_heads(isa):
    net = Tokens(np.random.default_rng(7), 3, (4, 6), 32)
    first = net.add("Slice", net.tokens, axis=1, start=0, end=1)
    check(net.graph(net.attention(first, 2, "whdl", mask=True)))


def test_windows_have_masks_of_their_own(isa):
    net = Tokens(np.random.default_rng(6), 2, (4, 6), 32)
    tokens = net.windows(net.tokens)
    count, length, channels = net.shapes[tokens]
    q, k, v = (
        net.add("Transpose", net.add("Reshape", net.linear(tokens, channels), shape=(count, length, 2, 16)), perm=perm)
        for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
    )
    scores = net.add("Add", net.add("MatMul", q, k), net.constant(1, 2, length, length))
    apart = net.add("Reshape", scores, shape=(2, count // 2, 2, length, length))
    masked = net.add("Add", apart, net.constant(1, count // 2, 1, length, length))
    weights = net.add("Softmax", net.add("Reshape", masked, shape=(count, 2, length, length)), axis=-1)
    rows = net.add("Transpose", net.add("MatMul", weights, v), perm=(0, 2, 1, 3))
    result = net.of_windows(net.add("Reshape", rows, shape=(count, length, channels)))
    plan = check(net.graph(net.linear(result, 5)))
    assert [step.kernel for step in plan.steps].count("attention") == 1


def random_net(rng):
    sizes = [(4, 6), (6, 8), (2, 2), (8, 2), (1, 4)]
    size = sizes[rng.integers(len(sizes))]
    net = Tokens(rng, int(rng.integers(1, 4)), size, int(rng.choice([3, 8, 17, 32])))
    x = net.tokens
    for _ in range(int(rng.integers(2, 9))):
        count, length, channels = net.shapes[x]
        kind = rng.choice(KINDS)
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
        elif kind == "attention" and channels % 2 == 0:
            x = net.attention(x, 2, str(rng.choice(["whdl", "hwdl"])), bool(rng.integers(2)))
        elif kind == "mean":
            op = str(rng.choice(["ReduceMean", "ReduceMax", "ReduceL2", "ReduceSum"]))
            x = net.add("Mul", x, net.add("Tanh", net.add(op, x, axes=(int(rng.integers(1, 3)),), keepdims=1)))
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
