"""Random graphs of operations with kernels, one of a residual block, and how graphs run: for the compiler's tests."""

from __future__ import annotations

import numpy as np

import fastcnn
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node

ACTIVATIONS = [
    ("Relu", {}),
    ("Clip", {"min": 0.0, "max": 6.0}),
    ("LeakyRelu", {"alpha": 0.1}),
    ("Tanh", {}),
    ("Sigmoid", {}),
    ("HardSwish", {}),
    ("Swish", {}),
    ("Gelu", {"approximate": "none"}),
    ("Erf", {}),
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


def run(graph, x):
    """The result, which must be the same for any number of threads."""
    plan = compile_graph(graph, {"x": x.shape})
    results = []
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            results.append(plan.run([x])[0])
    assert all((result == results[0]).all() for result in results)
    return results[0]
