"""Small files that ask for much memory or work: refused before anything is spent, within `max_bytes`."""

from __future__ import annotations

import json

import numpy as np
import onnx_builders as build
import pytest
from costly_files import outcome
from onnx import TensorProto, helper

import fastcnn as fc
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.io.weights import write_safetensors
from fastcnn.onnx_model import load_onnx

BUDGET = 64 << 20


def network(nodes, shape, tensors=(), opset=21, kind=TensorProto.FLOAT, outputs=("y",)):
    """An ONNX file from (operator, inputs, output, attributes); constants are c0, c1, ..."""
    made = [
        helper.make_node(op, inputs, outs if isinstance(outs, list) else [outs], **attrs)
        for op, inputs, outs, attrs in nodes
    ]
    constants = [build.tensor(f"c{i}", array) for i, array in enumerate(tensors)]
    return build.model(
        made, [build.value("x", shape, kind)], [build.value(name, None) for name in outputs], constants, opset, 10
    ).SerializeToString()


def one(op, inputs, shape, tensors=(), **attrs):
    return lambda: network([(op, inputs, "y", attrs)], shape, tensors)


def cast_first(op, inputs, shape, to, tensors=(), **attrs):
    return lambda: network([("Cast", ["x"], "i", {"to": to}), (op, inputs, "y", attrs)], shape, tensors)


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


ROOM = {"kernel_shape": [40] * 3}
REFUSED = {
    "nodes without end": lambda: same_names(50_000),
    "einsum over five letters": one("Einsum", ["x"] * 5, [3000], equation="i,j,k,l,m->i"),
    "einsum of six matrices": one("Einsum", ["x"] * 6, [64, 64], equation="ab,cd,ef,gh,ij,kl->a"),
    "maxima of 40^3 taps": one("MaxPool", ["x"], [1, 1, 200, 200, 200], **ROOM),
    "maxima of 40^3 taps that fit": one("MaxPool", ["x"], [1, 1, 120, 120, 120], **ROOM),
    "averages of 40^3 taps": one("AveragePool", ["x"], [1, 1, 110, 110, 110], **ROOM),
    "places of maxima": lambda: network([("MaxPool", ["x"], ["m", "y"], {"kernel_shape": [2, 2]})], [1, 1, 2000, 2000]),
    "split into twenty million": one("Split", ["x"], [20_000_000], num_outputs=20_000_000),
    "resize by 1e-8": one("Resize", ["x", "", "c0"], [1, 1, 4, 4], [floats(1, 1, 1e-8, 1)], mode="cubic", antialias=1),
    "resize a row of many to one": one(
        "Resize",
        ["x", "", "", "c0"],
        [1, 1, 1, 1_000_000],
        [ints(1, 1, 1, 1)],
        mode="linear",
        antialias=1,
        coordinate_transformation_mode="asymmetric",
    ),
    "resize by 24 TiB": one("Resize", ["x", "", "c0"], [1, 1, 1024, 1024], [floats(1, 1, 1600, 1600)], mode="linear"),
    "pool of padding": one(
        "MaxPool", ["x"], [1, 1, 4, 4], kernel_shape=[3, 3], pads=[1_000_000] * 4, strides=[1_000_000] * 2
    ),
    "one hot without indices": cast_first("OneHot", ["i", "c0", "c1"], [0, 3], 7, [ints(10**9), floats(0, 1)]),
    "one hot": cast_first("OneHot", ["i", "c0", "c1"], [1, 1000], 7, [ints(10_000), floats(0, 1)]),
    "mish": one("Mish", ["x"], [1, 6_000_000]),
    "cast to float64": one("Cast", ["x"], [1, 6_000_000], to=TensorProto.DOUBLE),
    "places of a uint8 maximum": lambda: network(
        [("Cast", ["x"], "i", {"to": 2}), ("MaxPool", ["i"], ["m", "y"], {"kernel_shape": [2, 2]})], [1, 4, 1000, 1000]
    ),
    "border of a convolution": one(
        "Conv",
        ["x", "c0"],
        ["N", 1, 4, 4],
        [np.ones((1, 1, 3, 3), np.float32)],
        pads=[20_000] * 4,
        strides=[20_000] * 2,
    ),
    "sums of a product": one("Gemm", ["x", "x"], [4000, 4000], transB=1),
    "kernel as large as the image": one(
        "MaxPool", ["x"], ["N", 1, 1400, 1400], kernel_shape=[1399, 1399], pads=[699, 699, 699, 699]
    ),
}
TAKEN = {
    "quantised in blocks without end": lambda: network(
        [
            ("QuantizeLinear", ["x", "c0", "c1"], "q", {"axis": 1, "block_size": 2**40}),
            ("DequantizeLinear", ["q", "c0", "c1"], "y", {"axis": 1, "block_size": 2**40}),
        ],
        [1, 1000],
        [np.ones((1, 1), np.float32), np.zeros((1, 1), np.uint8)],
    ),
    "ten thousand nodes of one name": lambda: same_names(10_000),
    "products with one matrix again and again": lambda: network(
        [("MatMul", [f"v{i}" if i else "x", "c0"], f"v{i + 1}" if i < 39 else "y", {}) for i in range(40)],
        ["N", 1000],
        [np.ones((1000, 1000), np.float32) * 1e-3],
    ),
    "two operators in turns": lambda: alternating(2_000),
}


def same_names(count):
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], "name") for i in range(count)]
    return build.model(nodes, [build.value("v0", [1, 4])], [build.value(f"v{count}", None)]).SerializeToString()


def alternating(count):
    nodes = [helper.make_node(("Relu", "Sin")[i % 2], [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    return build.model(nodes, [build.value("v0", [1, 4])], [build.value(f"v{count}", None)]).SerializeToString()


@pytest.mark.parametrize("case", REFUSED)
def test_onnx_files_that_ask_for_too_much_are_refused(case, tmp_path):
    content = REFUSED[case]()
    path = tmp_path / "small.onnx"
    path.write_bytes(content)
    found = outcome(path, BUDGET)
    assert found["outcome"] == "refused" and "max_bytes" in found["message"], found
    assert any(word in found["message"] for word in ("node '", "nodes", "input '", "padding"))
    assert found["peak"] < BUDGET, found


@pytest.mark.parametrize("case", TAKEN)
def test_onnx_files_that_only_seem_to(case, tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(TAKEN[case]())
    found = outcome(path, BUDGET, 120)
    assert found["outcome"] == "ran" and found["peak"] < BUDGET, found


# -- our own format -----------------------------------------------------------------------------------


def node(op, inputs, output, **attrs):
    return [op, f"{output}_node", list(inputs), output, {**ops.get(op).defaults, **attrs}]


def own(path, nodes, shape, tensors=None):
    """A file of our own format."""
    graph = {"version": 1, "inputs": {"x": [None, *shape]}, "outputs": [nodes[-1][3]], "nodes": nodes}
    metadata = {
        "format": "fastcnn",
        "format_version": "1",
        "graph": json.dumps(graph),
        "buffers": "[]",
        "input_shape": json.dumps(shape),
    }
    write_safetensors(path, tensors or {}, metadata)


WINDOW = {"kernel_shape": (2, 2), "strides": (1, 1), "pads": (1, 1, 0, 0)}
OWN_REFUSED = {
    "a border of 20,000": ([node("Pad", ["x"], "y", pads=(0, 0, 20_000, 20_000, 0, 0, 20_000, 20_000))], [1, 4, 4], {}),
    "a border of a convolution": (
        [node("Conv", ["x", "w"], "y", pads=(20_000,) * 4, strides=(20_000, 20_000))],
        [1, 4, 4],
        {"w": np.ones((1, 1, 3, 3), np.float32)},
    ),
    "a border of a constant": (
        [
            node("Pad", ["w"], "p", pads=(0, 0, 20_000, 20_000, 0, 0, 20_000, 20_000)),
            node("GlobalAveragePool", ["p"], "m"),
            node("Add", ["x", "m"], "y"),
        ],
        [1, 4, 4],
        {"w": np.ones((1, 1, 4, 4), np.float32)},
    ),
    "copies with padding": (
        [node("Conv", ["x", "w"], "y", pads=(1,) * 4)],
        [16, 600, 600],
        {"w": np.ones((16, 16, 3, 3), np.float32)},
    ),
    "a kernel as large as the image": (
        [node("MaxPool", ["x"], "y", kernel_shape=(1399, 1399), pads=(699,) * 4)],
        [1, 1400, 1400],
        {},
    ),
    "numbers in the graph alone": ([node("ai.onnx::Mish", ["x"], "y")], [1, 6_000_000], {}),
}


@pytest.mark.parametrize("case", OWN_REFUSED)
def test_files_of_our_own_that_ask_for_too_much_are_refused(case, tmp_path):
    own(tmp_path / "small.safetensors", *OWN_REFUSED[case])
    found = outcome(tmp_path / "small.safetensors", BUDGET)
    assert found["outcome"] == "refused" and "max_bytes" in found["message"], found
    assert "metadata 'graph'" in found["message"] and found["peak"] < BUDGET, found


def test_four_thousand_pools_are_compiled_in_time(tmp_path):
    nodes = [node("MaxPool", [f"v{i}" if i else "x"], f"v{i + 1}", **WINDOW) for i in range(4_000)]
    own(tmp_path / "small.safetensors", nodes, [3, 8, 8])
    found = outcome(tmp_path / "small.safetensors", BUDGET)
    assert found["outcome"] == "ran" and found["peak"] < BUDGET, found


@pytest.mark.parametrize("wide", [False, True])
def test_memory_of_long_graphs_is_that_of_short_ones(wide):
    """Also where all values live at one time: nothing is compared with everything else in Python."""
    attrs = {**ops.get("MaxPool").defaults, **WINDOW}
    count = 4_000
    nodes = [Node("MaxPool", f"n{i}", ("v0" if wide else f"v{i}",), f"v{i + 1}", attrs) for i in range(count)]
    if wide:
        names = tuple(f"v{i + 1}" for i in range(count))
        nodes.append(Node("Concat", "join", names, "y", {"axis": 1}))
    graph = Graph(nodes, {"v0": (None, 1, 4, 4)}, [nodes[-1].output], {})
    plan = compile_graph(graph, {"v0": (1, 1, 4, 4)})
    assert plan.arena_bytes == (count if wide else 2) * 16 * 4


def test_a_prediction_may_take_as_much_for_each_input(tmp_path):
    model = fc.Sequential(
        fc.Conv2d(3, 16, 3, padding=1), fc.ReLU(), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(16, 2)
    )
    model.input_shape = (3, 64, 64)
    model.save(tmp_path / "net.safetensors")
    loaded = fc.load(tmp_path / "net.safetensors", max_bytes=1 << 20)
    x = np.random.default_rng(0).standard_normal((64, 3, 64, 64)).astype(np.float32)
    assert (loaded(x) == model(x)).all()
    with pytest.raises(fc.ModelLoadError, match=r"metadata 'graph': node '0' \(Conv\).*max_bytes"):
        fc.load(tmp_path / "net.safetensors", max_bytes=1 << 17)


# -- types of inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int32", "int64", "float64", "uint64", "float16"])
def test_values_reach_the_network_in_its_own_type(kind):
    """Also those that float32 does not have."""
    number = getattr(TensorProto, {"float64": "DOUBLE"}.get(kind, kind.upper()))
    added = np.ones((), kind)
    content = network([("Add", ["x", "c0"], "y", {})], ["N", 3], [added], kind=number)
    top = {"float64": 1 / 3, "float16": 0.5}.get(kind, 2 ** (30 if kind == "int32" else 60) + 1)
    x = np.array([[1, 2, top], [top, 3, 4]], kind)
    for given in (x, x.astype(x.dtype.newbyteorder(">")), x[:, ::-1][:, ::-1]):
        got = load_onnx(content)(given)
        assert got.dtype == x.dtype and (got == x + added).all()
