"""ONNX files that can come from anyone: known attacks are refused by name, and mutations of valid models end in a
result or in one of four kinds of error."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import TensorProto, helper

import fastcnn as fc
from fastcnn.errors import ModelLoadError
from fastcnn.onnx_model import load_onnx

BUDGET = 16 << 20
HUGE = 2**62


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs, outputs, outputs[0] + "_node", **attrs)


def single(op, tensors=(), shape=("N", 4, 8, 8), opset=21, inputs=None, **attrs):
    """A model of one node whose further inputs are constants."""
    names = inputs or ["x", *[f"c{i}" for i in range(len(tensors))]]
    constants = [build.tensor(f"c{i}", array) for i, array in enumerate(tensors)]
    values = [build.value("x", shape)], [build.value("y", None)]
    return build.model([node(op, names, ["y"], **attrs)], *values, constants, opset, 10)


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


def edited(change):
    """The classifier, changed in place."""
    model = build.classifier()
    change(model)
    return model


def _tensor(model, name="conv.weight"):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _dims(*dims):
    def change(model):
        del _tensor(model).dims[:]
        _tensor(model).dims.extend(dims)

    return lambda: edited(change)


def _set(initializer, **fields):
    def change(model):
        tensor = _tensor(model, initializer)
        for key, value in fields.items():
            setattr(tensor, key, value)

    return lambda: edited(change)


def _external(**entries):
    def change(model):
        tensor = _tensor(model)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)

    return lambda: edited(change)


def _edit(statement):
    """A change written as a function of the model."""
    return lambda: edited(statement)


def _double(levels):
    nodes = [node("Concat", [f"v{i}" if i else "x"] * 2, [f"v{i + 1}"], axis=0) for i in range(levels)]
    return build.model(nodes, [build.value("x", [1, 1000])], [build.value(f"v{levels}", None)])


def _deep_graph():
    inner = helper.make_graph([], "g", [], [])
    for _ in range(3):
        inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "g", [], [])
    return build.model(inner.node, [build.value("x", [1])], [build.value("y", [1])])


conv_weight = np.zeros((4, 4, 3, 3), np.float32)
CORPUS = {
    # structure
    "no bytes": (lambda: b"", "0 nodes|opset"),
    "text": (lambda: b"\x08 this is no model" * 9, "not an ONNX file|opset"),
    "zeros": (lambda: b"\x08" + b"\0" * 500, "not an ONNX file|opset"),
    "truncated": (lambda: build.classifier().SerializeToString()[:-700], "."),
    "no nodes": (_edit(lambda m: m.graph.ClearField("node")), "0 nodes"),
    "no graph": (_edit(lambda m: m.ClearField("graph")), "0 nodes"),
    "no outputs": (_edit(lambda m: m.graph.ClearField("output")), "no outputs|output"),
    "no inputs": (_edit(lambda m: m.graph.ClearField("input")), "'x' is not computed"),
    "unknown output": (_edit(lambda m: setattr(m.graph.output[0], "name", "ghost")), "'ghost' is not computed"),
    "unknown input of a node": (_edit(lambda m: m.graph.node[0].input.__setitem__(0, "ghost")), "'ghost' is not"),
    "cycle": (_edit(lambda m: m.graph.node[0].input.__setitem__(0, "y")), "'y' is not computed before, or by a cycle"),
    "cycle of one": (lambda: single("Relu", inputs=["y"]), "by a cycle"),
    "wrong order": (_edit(lambda m: m.graph.node.insert(0, m.graph.node[5])), "not computed before"),
    "output twice": (_edit(lambda m: m.graph.node.extend([m.graph.node[0]])), "'a': defined twice"),
    "initializer twice": (_edit(lambda m: m.graph.initializer.extend([m.graph.initializer[0]])), "defined twice"),
    "nameless initializer": (_set("conv.bias", name=""), "no name"),
    "input named as a node's output": (_edit(lambda m: m.graph.input.extend([build.value("y", [1])])), "defined twice"),
    "two inputs": (_edit(lambda m: m.graph.input.extend([build.value("z", [1])])), "2 inputs"),
    "attribute twice": (_edit(lambda m: m.graph.node[0].attribute.extend([m.graph.node[0].attribute[0]])), "twice"),
    "functions of one name": (_edit(lambda m: m.functions.extend([onnx.FunctionProto(name="f")] * 2)), "two of its"),
    "sparse": (_edit(lambda m: m.graph.sparse_initializer.add()), "sparse initializers"),
    "control flow": (_deep_graph, "If, opset 17.: attribute 'else_branch' is missing"),
    "node without outputs": (_edit(lambda m: m.graph.node[0].ClearField("output")), "no outputs|not computed"),
    # versions
    "no opset": (_edit(lambda m: m.ClearField("opset_import")), r"opset \[\]"),
    "opset 0": (_edit(lambda m: setattr(m.opset_import[0], "version", 0)), r"opset \[0\]"),
    "opset of the future": (_edit(lambda m: setattr(m.opset_import[0], "version", 9999)), r"opset \[9999\]"),
    "opset negative": (_edit(lambda m: setattr(m.opset_import[0], "version", -5)), r"opset \[-5\]"),
    "two opsets": (_edit(lambda m: m.opset_import.add(domain="", version=9)), "opset"),
    "unknown operator": (_edit(lambda m: setattr(m.graph.node[0], "op_type", "Shell")), "Shell .opset 17.: nodes 'c"),
    "foreign domain": (_edit(lambda m: setattr(m.graph.node[0], "domain", "evil")), "evil::Conv"),
    # tensors
    "negative dimension": (_dims(8, -3, 3, 3), "none of them negative"),
    "product overflows": (_dims(2**40, 2**40), "more elements than there are addresses|max_bytes"),
    "product overflows to small": (_dims(2**33, 2**31, 0, 3), "0 bytes|bytes of data|dimensions|max_bytes|rank|weight"),
    "huge": (_dims(2**20, 2**20), "max_bytes"),
    "too many dimensions": (_dims(*[1] * 40), "at most 32"),
    "fewer bytes": (_set("conv.weight", raw_data=b"1234"), "4 bytes of data, expected 864"),
    "more bytes": (_set("conv.bias", raw_data=b"0" * 999), "999 bytes of data, expected 32"),
    "no data": (_edit(lambda m: _tensor(m).ClearField("raw_data")), "0 values, expected 216"),
    "values beyond the type": (
        _edit(
            lambda m: _tensor(m, "conv.bias").CopyFrom(
                TensorProto(name="conv.bias", data_type=TensorProto.INT8, dims=[8], int32_data=[300] * 8)
            )
        ),
        "300, expected those of int8",
    ),
    "unknown type": (_set("conv.bias", data_type=77), "element type 77"),
    "text as weights": (_set("conv.bias", data_type=TensorProto.STRING), "element type 8"),
    "segment": (_edit(lambda m: setattr(_tensor(m).segment, "begin", 1)), "segments"),
    "input of no type": (_edit(lambda m: m.graph.input[0].ClearField("type")), "expected a tensor"),
    "input without shape": (_edit(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")), "no shape"),
    "input huge": (lambda: single("Relu", shape=(1, 2**31 - 1, 2**31 - 1)), "max_bytes"),
    "input beyond integers": (lambda: single("Relu", shape=(1, HUGE)), r"below 2\^31"),
    # external data: see the test below for those that need files
    "path traversal": (_external(location="../secret"), "below the model's folder"),
    "hidden traversal": (_external(location="a/../../secret"), "below the model's folder"),
    "absolute path": (_external(location="/etc/passwd"), "below the model's folder"),
    "windows path": (_external(location="C:\\secret"), "below the model's folder"),
    "backslashes": (_external(location="..\\secret"), "below the model's folder"),
    "no location": (_external(offset="0"), "below the model's folder"),
    "zero byte": (_external(location="a\0b"), "below the model's folder"),
    "missing file": (_external(location="ghost.bin"), "No such file"),
    "offset a word": (_external(location="weights.bin", offset="x"), "expected integers"),
    "offset negative": (_external(location="weights.bin", offset="-8"), "offset=-8"),
    "offset behind the end": (_external(location="weights.bin", offset=str(HUGE)), "ends at"),
    "length huge": (_external(location="weights.bin", length=str(HUGE)), "expected 864 bytes"),
    "a folder": (_external(location="folder"), "regular file|directory"),
    # attributes and values
    "zero stride": (lambda: single("MaxPool", kernel_shape=[2, 2], strides=[0, 1]), "strides|stride"),
    "negative stride": (lambda: single("Conv", [conv_weight], strides=[-1, 1]), "stride"),
    "negative pads": (lambda: single("Conv", [conv_weight], pads=[-1] * 4), "pads"),
    "pads huge": (lambda: single("Conv", [conv_weight], pads=[2**40] * 4), "max_bytes|expected"),
    "kernel huge": (lambda: single("MaxPool", kernel_shape=[2**40, 2**40]), "kernel|expected"),
    "kernel larger than the image": (lambda: single("AveragePool", kernel_shape=[9, 9]), "does not fit|covers"),
    "many taps": (
        lambda: single("MaxPool", shape=(1, 1, 2, 2), kernel_shape=[999, 999], pads=[998] * 4),
        "taps|max_bytes",
    ),
    "dilation zero": (lambda: single("Conv", [conv_weight], dilations=[0, 1]), "dilation"),
    "group zero": (lambda: single("Conv", [conv_weight], group=0), "group"),
    "rank mismatch": (lambda: single("Conv", [np.zeros((4, 4, 3), np.float32)]), "weight|kernel"),
    "channels mismatch": (lambda: single("Conv", [np.zeros((4, 5, 3, 3), np.float32)]), "weight"),
    "axis out of range": (lambda: single("Concat", axis=9, inputs=["x", "x"]), "axis=9"),
    "axis beyond integers": (lambda: single("Softmax", axis=HUGE), "axis"),
    "perm repeated": (lambda: single("Transpose", perm=[0, 0, 1, 2]), "axes"),
    "reshape elsewhere": (lambda: single("Reshape", [ints(7, 7)]), "expected a shape"),
    "reshape negative": (lambda: single("Reshape", [ints(-2, -1)]), "expected a shape"),
    "two unknown sizes": (lambda: single("Reshape", [ints(-1, -1)]), "expected a shape"),
    "expand bomb": (lambda: single("Expand", [ints(2**40, 1, 4, 8, 8)]), "max_bytes"),
    "tile bomb": (lambda: single("Tile", [ints(1, 2**20, 2**20, 1)]), "max_bytes"),
    "tile negative": (lambda: single("Tile", [ints(1, -1, 1, 1)]), "sizes >= 0"),
    "resize bomb": (lambda: single("Resize", [floats(), floats(1, 1, 1e5, 1e5)], mode="nearest"), "max_bytes"),
    "resize by nothing": (lambda: single("Resize", [floats(), floats(1, 1, 0, 1)]), "positive"),
    "pad bomb": (lambda: single("Pad", [ints(0, 0, 0, 2**40, 0, 0, 0, 0)]), "max_bytes|padding|integers"),
    "concat bomb": (lambda: _double(40), "max_bytes"),
    "constant bomb": (lambda: single("ConstantOfShape", [ints(2**20, 2**20)], inputs=["c0"]), "max_bytes"),
    "range bomb": (
        lambda: single("Range", [np.float32(0), np.float32(1e30), np.float32(1e-30)], inputs=["c0", "c1", "c2"]),
        "max_bytes|OverflowError|inf",
    ),
    "range of step zero": (
        lambda: single("Range", [ints(0)[0], ints(9)[0], ints(0)[0]], inputs=["c0", "c1", "c2"]),
        "delta=0",
    ),
    "one hot bomb": (lambda: single("OneHot", [ints(2**50), floats(0, 1)]), "max_bytes|memory|indices"),
    "gather out of range": (lambda: single("Gather", [ints(99)], axis=1), "indices from 99"),
    "top k of too many": (lambda: single("TopK", [ints(99)]), "k=99"),
    "einsum nonsense": (lambda: single("Einsum", equation="->->", inputs=["x"]), "Einsum"),
    "einsum bomb": (
        lambda: single("Einsum", equation="abcd,efgh->abcdefgh", shape=(32, 4, 8, 8), inputs=["x", "x"]),
        "max_bytes",
    ),
    "split of other sizes": (lambda: single("Split", [ints(1, 1)], axis=1), "split="),
    "slice step zero": (lambda: single("Slice", [ints(0), ints(1), ints(1), ints(0)]), "zero"),
    "attribute of another kind": (lambda: single("Flatten", axis="one"), "axis='one'"),
    "unknown attribute": (lambda: single("Relu", run="rm"), "unknown attribute 'run'"),
    "attribute missing": (lambda: single("MaxPool"), "'kernel_shape' is missing"),
    "inner attribute": (lambda: single("Relu", output=3), "unknown attribute 'output'"),
    "too many inputs": (lambda: single("Relu", inputs=["x", "x"]), "2 inputs"),
    "too few inputs": (lambda: single("Conv", inputs=["x"]), "1 inputs"),
    "cast to nothing": (lambda: single("Cast", to=99), "element type 99"),
    "classes a number": (_edit(lambda m: helper.set_model_props(m, {"fastcnn.classes": "3"})), "classes"),
    "preprocess unknown": (_edit(lambda m: helper.set_model_props(m, {"fastcnn.preprocess": '{"run": 1}'})), "."),
}


@pytest.fixture
def folder(tmp_path):
    """A folder with what external data could point to."""
    (tmp_path / "model" / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"\0" * 864)
    (tmp_path / "model" / "weights.bin").write_bytes(b"\0" * 864)
    return tmp_path / "model"


def test_there_are_enough():
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("case", CORPUS)
def test_known_attacks_are_refused_by_name(case, folder):
    make, message = CORPUS[case]
    content = make()
    path = folder / "evil.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(ModelLoadError, match=message) as caught:
        fc.load(path, max_bytes=BUDGET)
    assert "evil.onnx" in str(caught.value)


@pytest.mark.parametrize("kind", ["file", "folder", "hard", "fifo"])
def test_links_are_refused(kind, folder):
    if kind == "file":
        (folder / "link.bin").symlink_to(folder / "weights.bin")
    elif kind == "folder":
        (folder / "link").symlink_to(folder.parent)
    elif kind == "hard":
        os.link(folder.parent / "secret", folder / "link.bin")
    else:
        os.mkfifo(folder / "link.bin")
    location = "link/secret" if kind == "folder" else "link.bin"
    path = folder / "evil.onnx"
    path.write_bytes(_external(location=location)().SerializeToString())
    with pytest.raises(ModelLoadError, match="symbolic link|one name"):
        fc.load(path)


def test_external_data_need_a_file():
    with pytest.raises(ModelLoadError, match="not read from a file"):
        load_onnx(_external(location="weights.bin")().SerializeToString())


def test_a_file_beyond_the_budget_is_not_read(folder):
    path = folder / "evil.onnx"
    path.write_bytes(build.classifier().SerializeToString())
    with pytest.raises(ModelLoadError, match="the file: needs .* bytes, more than max_bytes leaves .100"):
        fc.load(path, max_bytes=100)


# -- fuzzing ------------------------------------------------------------------------------------------

NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**40, 2**63 - 1)
SEEDS = [
    build.classifier(),
    build.transformer(),
    single("Resize", [floats(), floats(1, 1, 2, 2)]),
    single("ConvTranspose", [conv_weight], strides=[2, 2]),
    single("LRN", size=3),
    single("QuantizeLinear", [np.float32(0.1), np.uint8(3)]),
    single("TopK", [ints(2)]),
    single("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], mode="reflect"),
    single("AveragePool", kernel_shape=[3, 3]),
]
OPERATORS = (
    "Conv",
    "Gemm",
    "MatMul",
    "Reshape",
    "Concat",
    "Slice",
    "Pad",
    "Transpose",
    "Expand",
    "Tile",
    "Gather",
    "Resize",
    "TopK",
    "Softmax",
    "Split",
    "Einsum",
    "Clip",
    "Add",
    "Squeeze",
    "ReduceMean",
    "Cast",
    "Where",
    "MaxPool",
    "ConvTranspose",
    "Shape",
    "Range",
    "OneHot",
)


def mutate(model, rng):
    """One change of a model, in place."""
    graph, pick = model.graph, lambda items: items[int(rng.integers(len(items)))]
    kind = int(rng.integers(11))
    number = int(pick(NUMBERS))
    chosen = pick(graph.node) if len(graph.node) else None
    if chosen is None:
        return
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    names += [tensor.name for tensor in graph.initializer]
    if kind == 0:
        chosen.op_type = pick(OPERATORS)
    elif kind == 1 and len(chosen.input):
        chosen.input[int(rng.integers(len(chosen.input)))] = pick([*names, ""])
    elif kind == 2:
        chosen.input.append(pick(names))
    elif kind == 3 and len(chosen.input):
        del chosen.input[-1]
    elif kind == 4 and len(chosen.attribute):
        attribute = pick(chosen.attribute)
        if attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = number
        elif attribute.type == 2:
            attribute.i = number
        else:
            attribute.f, attribute.type = float(number), 1
    elif kind == 5:
        chosen.attribute.append(
            helper.make_attribute(
                pick(["axis", "pads", "strides", "axes", "perm", "mode", "to"]),
                pick([number, [number] * 2, [number] * 4, "linear", 0.5]),
            )
        )
    elif kind == 6 and len(graph.initializer):
        tensor = pick(graph.initializer)
        if len(tensor.dims):
            tensor.dims[int(rng.integers(len(tensor.dims)))] = number
    elif kind == 7 and len(graph.initializer):
        tensor = pick(graph.initializer)
        if tensor.data_type == TensorProto.INT64 and len(tensor.raw_data) >= 8:
            values = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 8 * 8], np.int64).copy()
            values[int(rng.integers(len(values)))] = number
            tensor.raw_data = values.tobytes()
        else:
            tensor.data_type = int(rng.integers(0, 24))
    elif kind == 8:
        dims = graph.input[0].type.tensor_type.shape.dim
        if len(dims):
            pick(dims).dim_value = number
    elif kind == 9:
        graph.node.remove(chosen)
    else:
        model.opset_import[0].version = int(rng.integers(5, 25))


def test_mutations_end_in_a_result_or_a_named_error(budget):
    """Half of the inputs have changed fields, the others changed bytes too."""
    rng = np.random.default_rng(31)
    loaded = 0
    for i in range(budget(20_000, 1_000_000)):
        model = onnx.ModelProto()
        model.CopyFrom(SEEDS[i % len(SEEDS)])
        for _ in range(int(rng.integers(1, 4))):
            mutate(model, rng)
        content = bytearray(model.SerializeToString())
        if i % 2:
            for _ in range(int(rng.integers(1, 6))):
                content[int(rng.integers(len(content)))] = int(rng.integers(256))
        try:
            network = load_onnx(bytes(content), max_bytes=1 << 20)
            loaded += 1
            if network.input_shape is not None and loaded % 20 == 0:
                network(np.zeros((1, *network.input_shape), np.float32))
        except (ModelLoadError, ValueError, TypeError, MemoryError):
            pass
    assert loaded > 500
