"""Small models of ONNX Runtime's own operators and of recurrent networks. What ONNX Runtime computes is stored, because it
is not installed where tests run.

    python tests/runtime_cases.py    # computes the values anew; needs the package onnxruntime
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import onnx_builders as build
from onnx import ValueInfoProto, helper

STORED = Path(__file__).parent / "runtime_values.json"
MICROSOFT = "com.microsoft"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]


class Numbers:
    """Random operands that are the same everywhere."""

    def __init__(self, name):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def floats(self, *shape):
        return (self.rng.integers(-64, 65, shape) / 32).astype(np.float32)

    def bytes(self, *shape, kind="uint8"):
        info = np.iinfo(kind)
        return self.rng.integers(info.min, info.max + 1, shape).astype(kind)


def f(value):
    return np.float32(value)


def u(value):
    return np.uint8(value)


def i(value):
    return np.int8(value)


def case(op, x, *others, outputs=1, domain=MICROSOFT, batch="N", **attrs):
    """A model of one node: its input x, mostly of a free batch, and constants, None where one is absent."""
    names = ["x", *[f"c{n}" if array is not None else "" for n, array in enumerate(others)]]
    node = helper.make_node(op, names, ["y", *[f"y{n}" for n in range(1, outputs)]], domain=domain, **attrs)
    constants = [build.tensor(f"c{n}", array) for n, array in enumerate(others) if array is not None]
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    results = [ValueInfoProto(name=node.output[-1])]
    values = [build.value("x", [batch, *x.shape[1:]], kind)]
    graph = helper.make_graph([node], "g", values, results, constants)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8), x


def binary(op, kind, other=(5, 6)):
    n = Numbers(op + kind)
    zeros = np.array([3, 7, 11], kind)
    x, b = n.bytes(3, 5, 6, kind=kind), n.bytes(*other, kind=kind)
    return case(op, x, f(0.0217), zeros[0], b, f(0.0373), zeros[1], f(0.0531), zeros[2])


def unary(op, kind, x_zero, y_zero, y_scale, **attrs):
    n = Numbers(op + kind)
    x_zero, y_zero = (value if value is None else np.array(value, kind) for value in (x_zero, y_zero))
    return case(op, n.bytes(3, 4, 7, 6, kind=kind), f(0.043), x_zero, f(y_scale), y_zero, **attrs)


def concat():
    n = Numbers("concat")
    others = [f(0.04), u(9), n.bytes(1, 5, 4), f(0.03), u(4), n.bytes(1, 1, 4), f(0.05), u(0)]
    model, x = case("QLinearConcat", n.bytes(1, 3, 4), f(0.045), u(5), *others, batch=1, axis=1)
    model.graph.node[0].input[:] = ["c0", "c1", "x", *[f"c{k}" for k in range(2, 10)]]
    return model, x


def q_gemm(kind, result, **attrs):
    n = Numbers(f"gemm{kind}{result}{attrs}")
    rows = (6, 7) if not attrs.get("transB") else (7, 6)
    per_channel = attrs.pop("per_channel", False)
    scale = n.rng.random(7).astype(np.float32) / 50 + f(0.01) if per_channel else f(0.02)
    zero = np.zeros(7, np.int8) if per_channel else i(0)
    c = n.rng.integers(-4000, 4000, 7).astype(np.int32)
    last = [f(0.9), np.array(101, kind)] if result else []
    a, b, a_zero = n.bytes(4, 6, kind=kind), n.bytes(*rows, kind="int8"), np.array(3, kind)
    return case("QGemm", a, f(0.03), a_zero, b, scale, zero, c, *last, **attrs)


def fused_conv(activation, params=(), bias=True, residual=False, **attrs):
    n = Numbers(f"conv{activation}")
    z = [n.floats(1, 5, 6, 6)] if residual else []
    more = {"activation_params": params} if params else {}
    x, w, b = n.floats(1, 4, 8, 8), n.floats(5, 4, 3, 3), n.floats(5) if bias else None
    return case("FusedConv", x, w, b, *z, activation=activation, batch=1, **more, **attrs)


def fused_matmul(a, b, **attrs):
    n = Numbers(f"matmul{a}{b}")
    return case("FusedMatMul", n.floats(*a), n.floats(*b), batch=1, **attrs)


def skip(op, *shapes, outputs=1):
    n = Numbers(op)
    arrays = [shape if shape is None else n.floats(*shape) for shape in shapes]
    return case(op, n.floats(1, 5, 8), *arrays, outputs=outputs, batch=1, epsilon=1e-5)


def attention(width, sizes=None, bias_shape=None, **attrs):
    n = Numbers(f"attention{sizes}{bias_shape}")
    attrs |= {"qkv_hidden_sizes": sizes} if sizes else {}
    sizes = sizes or (width,) * 3
    weight, bias = n.floats(10, sum(sizes)) / 4, n.floats(sum(sizes))
    rest = [None, None, n.floats(*bias_shape)] if bias_shape else []
    return case("Attention", n.floats(2, 6, 10), weight, bias, *rest, **attrs)


def heads(bias=True, scores=None, value=12, **attrs):
    n = Numbers(f"heads{bias}{scores}{value}")
    rest = [n.floats(24 + value) if bias else None]
    rest += [None, n.floats(*scores)] if scores else []
    x, key, values = n.floats(1, 6, 12), n.floats(1, 5, 12), n.floats(1, 5, value)
    return case("MultiHeadAttention", x, key, values, *rest, batch=1, **attrs)


def recurrent(op, gates, count, peepholes=False, **attrs):
    """An image (1, steps, numbers) as a sequence, of which the last step is none."""
    n = Numbers(f"{op}{count}")
    arrays = [n.floats(count, gates * 3, 2), n.floats(count, gates * 3, 3), n.floats(count, 2 * gates * 3)]
    more = [n.floats(count, 1, 3), n.floats(count, 9)] if peepholes else []
    length, first = np.array([4], np.int32), n.floats(count, 1, 3)
    model, x = case(op, n.floats(1, 5, 2), *arrays, length, first, *more, domain="", batch=1, hidden_size=3, **attrs)
    model.graph.node[0].input[0] = "steps"
    model.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]))
    return model, x


CASES = {
    "LSTM": lambda: recurrent("LSTM", 4, 2, True, direction="bidirectional", clip=1.5),
    "LSTM of coupled gates": lambda: recurrent("LSTM", 4, 1, direction="reverse", input_forget=1),
    "GRU": lambda: recurrent("GRU", 3, 2, direction="bidirectional"),
    "GRU, its product before the reset": lambda: recurrent("GRU", 3, 1, linear_before_reset=1),
    "RNN of other functions": lambda: recurrent(
        "RNN",
        1,
        2,
        direction="bidirectional",
        activations=["ScaledTanh", "HardSigmoid"],
        activation_alpha=[0.5, 0.3],
        activation_beta=[1.5, 0.1],
    ),
    "QLinearAdd": lambda: binary("QLinearAdd", "uint8"),
    "QLinearAdd of int8": lambda: binary("QLinearAdd", "int8"),
    "QLinearMul": lambda: binary("QLinearMul", "int8"),
    "QLinearMul of a number": lambda: binary("QLinearMul", "uint8", other=(1,)),
    "QLinearSigmoid": lambda: unary("QLinearSigmoid", "uint8", 128, 0, 1 / 256),
    "QLinearSigmoid without zero points": lambda: unary("QLinearSigmoid", "int8", None, None, 1 / 128),
    "QLinearLeakyRelu": lambda: unary("QLinearLeakyRelu", "int8", 4, -5, 0.05, alpha=0.2),
    "QLinearSoftmax": lambda: unary("QLinearSoftmax", "uint8", 100, 0, 1 / 256, axis=1, opset=13),
    "QLinearSoftmax of opset 12": lambda: unary("QLinearSoftmax", "uint8", 100, 0, 1 / 256, axis=2, opset=12),
    "QLinearAveragePool": lambda: unary(
        "QLinearAveragePool", "uint8", 120, 99, 0.03, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]
    ),
    "QLinearAveragePool with its padding": lambda: unary(
        "QLinearAveragePool", "uint8", 120, 99, 0.03, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    ),
    "QLinearGlobalAveragePool": lambda: unary("QLinearGlobalAveragePool", "uint8", 120, 99, 0.01),
    "QLinearConcat": concat,
    "QGemm": lambda: q_gemm("uint8", True),
    "QGemm to float32": lambda: q_gemm("int8", False, transB=1, alpha=0.5),
    "QGemm by column": lambda: q_gemm("uint8", True, transB=1, per_channel=True),
    "FusedConv Relu": lambda: fused_conv("Relu", residual=True),
    "FusedConv LeakyRelu": lambda: fused_conv("LeakyRelu", [0.3], bias=False, strides=[2, 1], pads=[1, 0, 2, 1]),
    "FusedConv Clip": lambda: fused_conv("Clip", [-1.0, 2.0], pads=[1] * 4),
    "FusedConv HardSigmoid": lambda: fused_conv("HardSigmoid", [0.1, 0.6]),
    "FusedConv Tanh": lambda: fused_conv("Tanh"),
    "FusedGemm": lambda: case(
        "FusedGemm",
        Numbers("a").floats(4, 6),
        Numbers("b").floats(5, 6),
        Numbers("c").floats(5),
        activation="LeakyRelu",
        activation_alpha=0.1,
        transB=1,
        alpha=0.5,
        beta=2.0,
    ),
    "FusedMatMul": lambda: fused_matmul((1, 6, 4), (1, 6, 5), transA=1, alpha=0.25),
    "FusedMatMul of a matrix": lambda: fused_matmul((1, 3, 6), (5, 6), transB=1),
    "BiasGelu": lambda: case("BiasGelu", Numbers("g").floats(3, 7), Numbers("h").floats(7)),
    "Gelu": lambda: case("Gelu", Numbers("g").floats(3, 7)),
    "FastGelu": lambda: case("FastGelu", Numbers("g").floats(3, 7), Numbers("h").floats(7)),
    "FastGelu without bias": lambda: case("FastGelu", Numbers("g").floats(3, 7)),
    "QuickGelu": lambda: case("QuickGelu", Numbers("g").floats(3, 7), alpha=1.5),
    "SkipLayerNormalization": lambda: skip("SkipLayerNormalization", (1, 5, 8), (8,), (8,), (8,)),
    "SkipLayerNormalization, its sum": lambda: skip("SkipLayerNormalization", (5, 8), (8,), (8,), None, outputs=4),
    "SkipSimplifiedLayerNormalization": lambda: skip("SkipSimplifiedLayerNormalization", (1, 5, 8), (8,), (8,)),
    "SimplifiedLayerNormalization": lambda: case(
        "SimplifiedLayerNormalization", Numbers("n").floats(2, 5, 8), Numbers("s").floats(8), domain="", epsilon=1e-3
    ),
    "Attention": lambda: attention(12, num_heads=3),
    "Attention of other values": lambda: attention(12, (8, 8, 12), num_heads=2, scale=0.2),
    "Attention with relative positions": lambda: attention(12, bias_shape=(1, 3, 6, 6), num_heads=3),
    "MultiHeadAttention": lambda: heads(num_heads=4),
    "MultiHeadAttention with a bias of its scores": lambda: heads(False, (1, 1, 6, 5), 8, num_heads=2, scale=0.5),
}


def compute():
    """The values of all cases, by ONNX Runtime."""
    from onnxruntime import InferenceSession

    found = {}
    for name, make in CASES.items():
        model, x = make()
        session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {"x": x})
        numbers = [int(v) if y.dtype.kind in "iu" else float(f"{v:.7g}") for v in y.ravel()]
        found[name] = {"type": y.dtype.name, "shape": y.shape, "values": numbers}
    return found


if __name__ == "__main__":
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in compute().items())
    STORED.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
