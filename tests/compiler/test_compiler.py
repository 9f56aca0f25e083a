"""The compiler: random networks compute what their nodes are defined to, however they are folded, fused, laid out and
placed."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from definitions import evaluate

import fastcnn
from fastcnn import ops
from fastcnn.compiler import layout, memory
from fastcnn.compiler.choose import ARITHMETIC, Problem, algorithm_names, choose
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.decisions import ConvChoice

ACTIVATIONS = [
    ("Relu", {}),
    ("Clip", {"min": 0.0, "max": 6.0}),
    ("LeakyRelu", {"alpha": 0.1}),
    ("Tanh", {}),
    ("Sigmoid", {}),
    ("HardSwish", {}),
    ("Swish", {}),
]


class Builder:
    """Random graphs, node by node; `values` are those that may be read."""

    def __init__(self, rng):
        self.rng, self.nodes, self.constants = rng, [], {}
        self.shape = (int(rng.choice([1, 3, 8, 17])), int(rng.integers(5, 12)), int(rng.integers(5, 12)))
        self.values = {"x": (1, *self.shape)}

    def constant(self, *shape, low=-1.0, high=1.0):
        name = f"c{len(self.constants)}"
        self.constants[name] = self.rng.uniform(low, high, shape).astype(np.float32)
        return name

    def add(self, op, inputs, **attrs):
        full = {**ops.get(op).defaults, **attrs}
        shapes = [self.values.get(name, np.shape(self.constants.get(name))) for name in inputs]
        output = f"v{len(self.nodes)}"
        self.values[output] = ops.get(op).infer(full, shapes)
        self.nodes.append(Node(op, f"n{len(self.nodes)}", tuple(inputs), output, full))
        return output

    def conv(self, x):
        channels, kernel = self.values[x][1], int(self.rng.choice([1, 3, 5]))
        depthwise = channels > 1 and self.rng.random() < 0.3
        outs = channels if depthwise else int(self.rng.choice([channels, 5, 16, 24]))
        groups = channels if depthwise else 1
        weight = self.constant(outs, channels // groups, kernel, kernel, low=-0.3, high=0.3)
        inputs = [x, weight] + ([self.constant(outs)] if self.rng.random() < 0.5 else [])
        side = kernel // 2
        same = {"pads": (side,) * 4} if self.rng.random() < 0.7 else {"auto_pad": "SAME_UPPER", "strides": (2, 2)}
        return self.add("Conv", inputs, group=groups, **same)

    def step(self, x):
        kind = self.rng.choice(["conv", "conv", "norm", "activation", "pool", "add", "concat", "pad", "dropout", "mul"])
        channels = self.values[x][1]
        if kind == "norm":
            parts = [self.constant(channels) for _ in range(3)] + [self.constant(channels, low=0.1)]
            return self.add("BatchNormalization", [x, *parts])
        if kind == "activation":
            name, attrs = ACTIVATIONS[self.rng.integers(len(ACTIVATIONS))]
            return self.add(name, [x], **attrs)
        if kind == "pool" and min(self.values[x][2:]) > 2:
            op, size = str(self.rng.choice(["MaxPool", "AveragePool"])), int(self.rng.integers(2, 4))
            return self.add(op, [x], kernel_shape=(size, size), strides=(2, 2), pads=(size - 2,) * 4)
        like = [name for name, shape in self.values.items() if shape == self.values[x]]
        if kind in ("add", "mul"):
            return self.add(kind.title(), [x, str(self.rng.choice(like))])
        if kind == "concat":
            return self.add("Concat", [x, str(self.rng.choice(like))], axis=1)
        if kind == "pad":
            return self.add("Pad", [x], pads=(0, 0, 1, 0, 0, 0, 0, 2), value=0.5)
        return self.add("Dropout", [x]) if kind == "dropout" else self.conv(x)

    def graph(self):
        value = "x"
        for _ in range(int(self.rng.integers(1, 12))):
            value = self.step(value)
        ending = self.rng.integers(4)
        if ending == 1:
            value = self.add("GlobalAveragePool", [value])
        if ending >= 1:
            value = self.add("Flatten", [value])
            weight = self.constant(int(self.rng.integers(1, 20)), self.values[value][1], low=-0.2, high=0.2)
            value = self.add("Gemm", [value, weight])
        if ending == 3:
            value = self.add("Softmax", [value], axis=1)
        graph = Graph(self.nodes, {"x": (None, *self.shape)}, [value], self.constants)
        graph.validate()
        return graph


@pytest.mark.parametrize("chunk", range(5))
def test_random_networks(chunk, isa, poisoned, budget):
    rng = np.random.default_rng([13, chunk])
    for _ in range(budget(200, 10_000) // 5):
        graph = Builder(rng).graph()
        batch = int(rng.integers(1, 4))
        x = rng.standard_normal((batch, *graph.inputs["x"][1:])).astype(np.float32)
        plan = compile_graph(graph, {"x": x.shape})
        expected = evaluate(graph, x=x)[graph.outputs[0]]
        results = []
        for threads in (1, 2, 3):
            with fastcnn.num_threads(threads):
                results += [plan.run([x])[0] for _ in range(2)]
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-5 * scale)
        assert all(np.array_equal(result, results[0]) for result in results), "bits depend on threads or repetition"


def alive_together(placer, a, b):
    (a, b), dies = sorted((a, b), key=placer.born.get), placer.dies
    return placer.born[b] <= dies.get(a, placer.born[a])


def test_values_alive_together_never_overlap():
    rng = np.random.default_rng(14)
    for _ in range(100):
        graph = Builder(rng).graph()
        shapes = graph.infer({"x": (2, *graph.inputs["x"][1:])})
        nodes = [
            n.deciding(choice=ConvChoice("direct", "blocked", shapes[n.inputs[1]][2:], n.attrs["pads"]))
            if n.op == "Conv" and n.attrs["group"] == 1 and n.attrs["auto_pad"] == "NOTSET"
            else n
            for n in graph.nodes
            if n.op != "Conv" or (n.attrs["group"] == 1 and n.attrs["auto_pad"] == "NOTSET")
        ]
        if len(nodes) != len(graph.nodes):
            continue
        state = State(replace(graph, nodes=nodes), shapes, Options(vl=8))
        placer = memory._Placer(layout.arrange(state))
        placement = placer.run()
        offsets, total = placer.pack()
        assert total == placement.arena_floats <= sum(size + memory.ALIGNMENT for size in placer.sizes.values())
        for a in offsets:
            assert offsets[a] % memory.ALIGNMENT == 0
            for b in offsets:
                apart = offsets[a] + placer.sizes[a] <= offsets[b] or offsets[b] + placer.sizes[b] <= offsets[a]
                assert a == b or apart or not alive_together(placer, a, b), (a, b)


def residual_graph():
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((16, 16, 3, 3)).astype(np.float32),
        "gamma": np.ones(16, np.float32),
        "beta": np.zeros(16, np.float32),
        "mean": np.zeros(16, np.float32),
        "var": np.ones(16, np.float32),
    }
    conv = {**ops.get("Conv").defaults, "pads": (1, 1, 1, 1)}
    nodes = [
        Node("Conv", "conv", ("x", "w"), "a", conv),
        Node("BatchNormalization", "norm", ("a", "gamma", "beta", "mean", "var"), "b", {"epsilon": 1e-5}),
        Node("Add", "sum", ("b", "x"), "c", {}),
        Node("Relu", "relu", ("c",), "d", {}),
    ]
    return Graph(nodes, {"x": (None, 16, 6, 6)}, ["d"], weights)


def test_a_residual_block_is_one_convolution():
    plan = compile_graph(residual_graph(), {"x": (1, 16, 6, 6)})
    (conv,) = [step for step in plan.steps if step.kernel != "reorder"]
    assert (conv.name, conv.fused) == ("conv", ("sum", "relu"))
    assert "not depthwise" in conv.reasons["depthwise"]


def test_graphs_are_not_changed():
    graph = residual_graph()
    before = graph.to_json()
    compile_graph(graph, {"x": (1, 16, 6, 6)})
    assert graph.to_json() == before


def test_choice_and_reasons():
    dense = Problem(16, 16, 1, (3, 3), (1, 1), (1, 1), vl=8, size=(6, 6))
    large = Problem(64, 64, 1, (3, 3), (1, 1), (1, 1), vl=8, size=(56, 56))
    assert choose(large)[0].name == "winograd"
    entry, reasons = choose(replace(large, packed_ahead=False))
    assert entry.name == "direct" and reasons["winograd"].startswith("estimated at")
    deep = Problem(512, 512, 1, (3, 3), (1, 1), (1, 1), vl=16, size=(7, 7))
    assert choose(deep)[0].name == "winograd_lean"  # its filters are smaller
    assert choose(replace(deep, images=8))[0].name == "winograd"
    assert choose(replace(deep, images=16))[0].seconds(replace(deep, images=16)) < choose(deep)[0].seconds(deep)
    cut = Problem(12, 12, 2, (3, 3), (1, 1), (1, 1), vl=8, size=(6, 6))
    entry, reasons = choose(cut)
    assert entry.name == "direct" and reasons["winograd"] == "2 groups: it takes one"
    with pytest.raises(ValueError, match="algorithm='winograd' cannot compute this layer: 2 groups"):
        choose(cut, "winograd")
    # Three vectors of eight for twelve channels: the first block is of both groups.
    assert entry.seconds(cut) == pytest.approx(2 * cut.operations / ARITHMETIC[cut.vl])
    assert reasons["im2col"].endswith("only where it is asked for")
    with pytest.raises(ValueError, match="algorithm='fft', expected one of auto, depthwise, direct, winograd"):
        choose(dense, "fft")
    depthwise = Problem(8, 8, 8, (3, 3), (1, 1), (1, 1), vl=8, size=(6, 6))
    for name in algorithm_names()[1:]:
        assert choose(depthwise if name in ("depthwise", "im2col") else dense, name)[0].name == name


def test_one_plan_many_callers(budget):
    plan = compile_graph(residual_graph(), {"x": (1, 16, 6, 6)})
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1, 16, 6, 6)).astype(np.float32) for _ in range(8)]
    expected = [plan.run([x])[0] for x in inputs]
    wrong = []

    def call(i):
        for _ in range(budget(200, 1000)):
            if not np.array_equal(plan.run([inputs[i]])[0], expected[i]):
                wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_flat_memory_over_many_shapes(budget):
    """Eager plans are forgotten: memory does not grow with the number of shapes met."""
    rng = np.random.default_rng(2)
    weight = np.ones((8, 4, 3, 3), np.float32)

    def resident():
        with open("/proc/self/status") as file:  # pages of files come and go with the system's needs
            return 1024 * int(next(line for line in file if line.startswith("RssAnon")).split()[1])

    def call(count):
        for _ in range(count):
            h, w = rng.integers(3, 64, 2)
            fastcnn.functional.conv2d(np.zeros((1, 4, h, w), np.float32), weight)

    call(500)
    before = resident()
    call(budget(1_000, 10_000))
    assert resident() < 1.05 * before + (8 << 20)
