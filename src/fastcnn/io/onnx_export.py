"""Writes ONNX files. The operations and attributes of our graph are those of ONNX, so that few of them change.

A graph of operations with kernels is written for opset 17. General operations (compiler/resolve.py) have the form of
opset 21. A graph of them is written for opset 21, or the opset of its newest operator. _onnx_stream.py writes the
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.compiler.network import infer_values
from fastcnn.graph.ir import Graph, Node
from fastcnn.io._memory import ask_memory
from fastcnn.io._onnx_package import import_onnx
from fastcnn.io._onnx_stream import ELEMENT_TYPES, FILE_LIMIT, check_model, stream_model
from fastcnn.ops.general import General
from fastcnn.ops.node import Op

__all__ = ["to_onnx"]

OPSET, IR_VERSION = Op.opset, 8
GENERAL_OPSET, GENERAL_IR_VERSION = General.opset, 10
# The most bytes that the `onnx` package takes for a node or one of its inputs, and beside these.
_PROTO_BYTES, _SPARE_BYTES = 4096, 16 << 20


def to_onnx(
    graph: Graph, input_shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Return the content of an ONNX file, in parts to be written one after the other.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shapes of the inputs, from which all other shapes are inferred. A size that is free in the graph is also free
        in the file.
    metadata : dict of str to str

    Yields
    ------
    bytes-like
        A part, which is valid until the next one is taken. The weights are not copied.

    Raises
    ------
    ValueError
        If the file would exceed 2 GB. It is raised before the first part.
    ImportError
        If the `onnx` package is not installed.
    MemoryError
        If there is too little memory for the nodes. Weights need none.
    """
    import_onnx("writing ONNX files")
    from onnx import helper

    total = sum(array.nbytes for array in graph.constants.values())
    if total > FILE_LIMIT:
        raise ValueError(f"export_onnx: the weights have {total} bytes, ONNX files at most 2^31")
    ask_memory(_SPARE_BYTES + _PROTO_BYTES * (len(graph.nodes) + sum(len(node.inputs) for node in graph.nodes)))
    writer = _Writer(graph, input_shapes)
    nodes = [proto for node in graph.nodes for proto in writer.nodes(node)]
    values = [writer.value(name, graph.inputs[name]) for name in graph.inputs]
    for name in graph.outputs:
        if writer.shapes[name] is None:
            raise ValueError(
                f"export_onnx: output {name!r}: how many dimensions it has is not known before it is "
                "computed, and ONNX files have to tell"
            )
    results = [writer.value(name, None) for name in graph.outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "network", values, results, writer.tensors),
        opset_imports=[helper.make_opsetid("", writer.opset)],
        ir_version=writer.ir_version,
        producer_name="fastcnn",
    )
    helper.set_model_props(model, dict(metadata))
    check_model(model, graph.constants)
    return stream_model(model, graph.constants)


class _Writer:
    def __init__(self, graph: Graph, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.graph = graph
        self.tensors: list[Any] = []  # new constants; _onnx_stream.py writes those of the graph
        self.opset, self.ir_version = OPSET, IR_VERSION
        self.types: dict[str, str] = dict(graph.types)
        self.shapes, types = infer_values(graph, input_shapes)
        self.types |= types
        if any(node.kind.opset >= GENERAL_OPSET for node in graph.nodes):
            self.opset, self.ir_version = GENERAL_OPSET, GENERAL_IR_VERSION
            self._raise_opset()

    def _raise_opset(self) -> None:
        """Raise the opset to that of the newest operator, with the lowest IR version that has it."""
        from onnx import defs, helper

        for node in self.graph.nodes:
            since = _oldest(defs, node.op.rpartition(":")[2])
            self.opset = max(self.opset, since)
        if self.opset > GENERAL_OPSET:
            self.ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)])

    def value(self, name: str, sizes: tuple[int | None, ...] | None) -> Any:
        """Describe the type and shape of an input or output. An output's first size is free where an input's is."""
        from onnx import helper

        shape = self.shapes[name]
        dims: list[Any] | None = None if shape is None else list(shape)
        if dims and sizes is not None:
            dims = [f"size_{i}" if size is None else size for i, size in enumerate(sizes)]
            dims[0] = "N" if sizes[0] is None else sizes[0]
        elif dims:
            free = [size for shape in self.graph.inputs.values() for size in shape[1:] if size is None]
            batch = any(shape and shape[0] is None for shape in self.graph.inputs.values())
            dims = ["N" if batch else dims[0], *[f"out_{i}" if free else size for i, size in enumerate(dims[1:])]]
        return helper.make_tensor_value_info(name, ELEMENT_TYPES[self.types.get(name, "float32")], dims)

    def tensor(self, name: str, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def nodes(self, node: Node) -> list[Any]:
        """Convert a node to nodes of ONNX."""
        from onnx import helper

        if node.kind.opset >= GENERAL_OPSET:
            return self.general(node)
        attrs = dict(node.attrs)
        rule = _NATIVE.get(node.op)
        if rule is not None:
            return rule(self, node, attrs)
        if "auto_pad" in attrs and attrs["auto_pad"] == "NOTSET":
            del attrs["auto_pad"]
        elif "auto_pad" in attrs:
            del attrs["pads"]  # ONNX refuses both attributes on one node
        attrs.pop("algorithm", None)
        return [helper.make_node(node.op, _given(node.inputs), [node.output], node.name, **attrs)]

    def general(self, node: Node) -> list[Any]:
        from onnx import defs, helper, numpy_helper

        op, attrs, inputs = node.op.rpartition(":")[2], dict(node.attrs), list(node.inputs)
        before: list[Any] = []
        index = attrs.pop("output", 0)
        if attrs.pop("flatten", 0):  # softmax over several axes: one axis of a matrix, which is reshaped again
            rows, result, shape = (f"{node.output}/{part}" for part in ("rows", "result", "shape"))
            return [
                helper.make_node("Flatten", inputs, [rows], axis=attrs["axis"]),
                helper.make_node(op, [rows], [result], node.name, axis=1),
                helper.make_node("Shape", inputs, [shape]),
                helper.make_node("Reshape", [result, shape], [node.output]),
            ]
        if attrs.pop("by_group", 0):
            inputs[1:3], before = self.by_channel(node)
        if op == "ConstantOfShape" and len(inputs) > 1:
            attrs["value"] = numpy_helper.from_array(self.graph.constants[inputs.pop()].reshape(1))
        if op in _ALIGNED and attrs.pop("axis", None) is not None:
            inputs[1], before = self.aligned(node)
        schema = defs.get_schema(op, self.opset)
        attrs = {key: value for key, value in attrs.items() if value is not None and key in schema.attributes}
        count = self.split_count(node) if op == "Split" else max(index + 1, schema.min_output)
        if attrs.get("training_mode"):
            if index == 0 and self.shapes[inputs[0]] is not None:
                return self.batch_normalised(node)
            count = schema.max_output  # of BatchNormalization: readers refuse it with fewer
        outputs = [node.output if i == index else f"{node.output}/unused{i}" for i in range(count)]
        return [*before, helper.make_node(op, _given(inputs), outputs, node.name, **attrs)]

    def batch_normalised(self, node: Node) -> list[Any]:
        """A batch normalisation in training mode, spelled out. ONNX Runtime 1.32 computes other values where nobody
        reads the statistics that are its further outputs."""
        from onnx import helper

        (x, *weights), y, rank = node.inputs[:3], node.output, len(self.shapes[node.inputs[0]] or ())
        over = self.tensor(f"{y}/over", np.array([0, *range(2, rank)]))
        behind = self.tensor(f"{y}/behind", np.arange(1, rank - 1))
        epsilon = np.array(node.attrs.get("epsilon", node.kind.defaults["epsilon"]), np.float32)
        scale, bias = f"{y}/scale", f"{y}/bias"
        steps = [
            *[("Unsqueeze", [name, behind], wide) for name, wide in zip(weights, (scale, bias), strict=True)],
            ("ReduceMean", [x, over], f"{y}/mean"),
            ("Sub", [x, f"{y}/mean"], f"{y}/centred"),
            ("Mul", [f"{y}/centred", f"{y}/centred"], f"{y}/squares"),
            ("ReduceMean", [f"{y}/squares", over], f"{y}/variance"),
            ("Add", [f"{y}/variance", self.tensor(f"{y}/epsilon", epsilon)], f"{y}/least"),
            ("Sqrt", [f"{y}/least"], f"{y}/deviation"),
            ("Div", [f"{y}/centred", f"{y}/deviation"], f"{y}/normal"),
            ("Mul", [f"{y}/normal", scale], f"{y}/scaled"),
            ("Add", [f"{y}/scaled", bias], y),
        ]
        return [helper.make_node(op, inputs, [output], output) for op, inputs, output in steps]

    def split_count(self, node: Node) -> int:
        if len(node.inputs) > 1:
            shape = self.shapes[node.inputs[1]]
            return shape[0] if shape else 1
        return int(node.attrs["num_outputs"] or 1)

    def aligned(self, node: Node) -> tuple[str, list[Any]]:
        """Reshape the second operand for broadcasting. In opset 6 the attribute `axis` says where its axes belong."""
        from onnx import helper

        x, y = (self.shapes[name] for name in node.inputs[:2])
        if x is None or y is None or len(y) == len(x):
            return node.inputs[1], []
        behind = len(x) - node.attrs["axis"] % len(x) - len(y)
        axes = self.tensor(f"{node.output}/axes", np.arange(len(y), len(y) + behind))
        wide = f"{node.output}/wide"
        return wide, [helper.make_node("Unsqueeze", [node.inputs[1], axes], [wide])]

    def by_channel(self, node: Node) -> tuple[list[str], list[Any]]:
        """Gather scale and bias of a GroupNormalization for each channel. Before opset 21 there is one for each group.
        The constants keep their names and shapes."""
        from onnx import helper

        shape = self.shapes[node.inputs[0]]
        if shape is None:
            raise ValueError(
                f"export_onnx: node {node.name!r}: GroupNormalization with a scale for each group, of an "
                "input whose number of channels is not known before it runs"
            )
        group = np.arange(shape[1]) // (shape[1] // node.attrs["num_groups"])
        index = self.tensor(f"{node.output}/groups", group)
        wide = [f"{node.output}/{part}" for part in ("scale", "bias")]
        return wide, [
            helper.make_node("Gather", [name, index], [result])
            for name, result in zip(node.inputs[1:], wide, strict=True)
        ]


_ALIGNED = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu")


def _oldest(defs: Any, op: str) -> int:
    """Return the first opset that has an operator."""
    since = defs.get_schema(op).since_version
    while since > 1 and defs.has(op, since - 1):
        since = defs.get_schema(op, since - 1).since_version
    return int(since)


def _given(names: Sequence[str]) -> list[str]:
    """Names of inputs without absent ones at the end, which other tools take for inputs without a value."""
    return list(names[: max((i + 1 for i, name in enumerate(names) if name), default=0)])


def _with_inputs(node: Node, extra: list[str], **attrs: Any) -> list[Any]:
    from onnx import helper

    return [helper.make_node(node.op, _given([*node.inputs, *extra]), [node.output], node.name, **attrs)]


def _gemm(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    from onnx import helper

    if len(w.shapes[node.output] or ()) == 2:
        return _with_inputs(node, [], transB=1)
    x, weight, *bias = node.inputs
    turned, product = f"{node.output}/weight", node.output if not any(bias) else f"{node.output}/product"
    nodes = [
        helper.make_node("Transpose", [weight], [turned], f"{node.name}.weight", perm=[1, 0]),
        helper.make_node("MatMul", [x, turned], [product], node.name),
    ]
    return nodes + [
        helper.make_node("Add", [product, name], [node.output], f"{node.name}.bias") for name in bias if name
    ]


def _matmul(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    """A product of operands that are transposed before, and multiplied by a number behind."""
    from onnx import helper

    nodes, inputs = [], list(node.inputs)
    for i, key in enumerate(("trans_a", "trans_b")):
        if attrs[key]:
            rank, turned = len(w.shapes[inputs[i]] or ()), f"{node.output}/{key}"
            perm = [*range(rank - 2), rank - 1, rank - 2]
            nodes.append(helper.make_node("Transpose", [inputs[i]], [turned], f"{node.name}.{key}", perm=perm))
            inputs[i] = turned
    product = node.output if attrs["scale"] == 1.0 else f"{node.output}/product"
    nodes.append(helper.make_node("MatMul", inputs, [product], node.name))
    if product != node.output:
        scale = w.tensor(f"{node.name}.scale", np.array(attrs["scale"], np.float32))
        nodes.append(helper.make_node("Mul", [product, scale], [node.output], f"{node.name}.scaled"))
    return nodes


def _attention(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    """Attention as the products and the softmax that it consists of."""
    from onnx import helper

    (q, k, v), bias, y = node.inputs[:3], [name for name in node.inputs[3:] if name], node.output
    shape = w.shapes[q]
    assert shape is not None
    scale = w.tensor(f"{node.name}.scale", np.array(attrs["scale"] or shape[-1] ** -0.5, np.float32))
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Transpose", [k], "turned", {"perm": [0, 1, 3, 2]}),
        ("MatMul", [q, f"{y}/turned"], "products", {}),
        ("Mul", [f"{y}/products", scale], "scores", {}),
        *[("Add", [f"{y}/scores", name], "sums", {}) for name in bias],
        ("Softmax", [f"{y}/{'sums' if bias else 'scores'}"], "weights", {"axis": -1}),
    ]
    nodes = [helper.make_node(op, names, [f"{y}/{to}"], f"{node.name}.{to}", **more) for op, names, to, more in steps]
    return [*nodes, helper.make_node("MatMul", [f"{y}/weights", v], [y], node.name)]


def _clip(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    bounds = [w.tensor(f"{node.name}.{key}", np.array(attrs[key], np.float32)) for key in ("min", "max")]
    return _with_inputs(node, bounds)


def _dropout(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    return _with_inputs(node, [w.tensor(f"{node.name}.ratio", np.array(attrs["ratio"], np.float32))])


def _drop_path(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    from onnx import helper

    return [helper.make_node("Identity", node.inputs, [node.output], node.name)]


def _pad(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    return _with_inputs(
        node,
        [
            w.tensor(f"{node.name}.pads", np.array(attrs["pads"], np.int64)),
            w.tensor(f"{node.name}.value", np.array(attrs["value"], np.float32)),
        ],
    )


def _reshape(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    return _with_inputs(node, [w.tensor(f"{node.name}.shape", np.array(attrs["shape"], np.int64))])


def _slice(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    keys = ("start", "end", "axis", "step")
    return _with_inputs(node, [w.tensor(f"{node.name}.{key}", np.array([attrs[key]], np.int64)) for key in keys])


def _reduce(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    """The axes became an input: of ReduceSum in opset 13, of the others in opset 18."""
    axes = attrs.pop("axes")
    if axes and node.op != "ReduceSum" and w.opset < 18:
        attrs["axes"] = axes
        axes = ()
    return _with_inputs(node, [w.tensor(f"{node.name}.axes", np.array(axes, np.int64))] if axes else [], **attrs)


def _resize(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    scales = [1.0, 1.0, attrs.pop("scale_h"), attrs.pop("scale_w")]
    del attrs["sizes"]
    return _with_inputs(node, ["", w.tensor(f"{node.name}.scales", np.array(scales, np.float32))], **attrs)


def _repeat_for_batch(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    from onnx import helper

    x, like = node.inputs
    size, sizes = f"{node.output}/batch", f"{node.output}/sizes"
    ones = w.tensor(f"{node.name}.ones", np.ones(len(w.shapes[x] or ()) - 1, np.int64))
    return [
        helper.make_node("Shape", [like], [size], f"{node.name}.batch", start=0, end=1),
        helper.make_node("Concat", [size, ones], [sizes], f"{node.name}.sizes", axis=0),
        helper.make_node("Expand", [x, sizes], [node.output], node.name),
    ]


def _swish(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    from onnx import helper

    gate = f"{node.output}/gate"
    return [
        helper.make_node("Sigmoid", node.inputs, [gate], f"{node.name}.sigmoid"),
        helper.make_node("Mul", [*node.inputs, gate], [node.output], node.name),
    ]


def _gelu(w: _Writer, node: Node, attrs: dict[str, Any]) -> list[Any]:
    """Gelu exists from opset 20 on. Before, files spell it out."""
    from onnx import helper

    if w.opset >= 20:
        return _with_inputs(node, [], **attrs)
    (x,) = node.inputs
    made: list[Any] = []

    def add(op: str, *inputs: str) -> str:
        made.append(helper.make_node(op, inputs, [f"{node.output}/{len(made)}"], f"{node.name}/{len(made)}"))
        return str(made[-1].output[0])

    def number(value: float) -> str:
        return w.tensor(f"{node.output}/number{value:.6g}", np.array(value, np.float32))

    if attrs["approximate"] == "none":
        share = add("Erf", add("Mul", number(2**-0.5), x))
    else:
        cube = add("Mul", add("Mul", add("Mul", number(0.044715), x), x), x)
        share = add("Tanh", add("Mul", number((2 / np.pi) ** 0.5), add("Add", x, cube)))
    half = add("Mul", number(0.5), add("Add", number(1.0), share))
    return [*made, helper.make_node("Mul", [x, half], [node.output], node.name)]


# Operations whose form differs from that of opset 17.
_NATIVE: dict[str, Callable[[_Writer, Node, dict[str, Any]], list[Any]]] = {
    "Gelu": _gelu,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Attention": _attention,
    "Clip": _clip,
    "Dropout": _dropout,
    "Expand": _reshape,
    "DropPath": _drop_path,
    "Pad": _pad,
    "RepeatForBatch": _repeat_for_batch,
    "Reshape": _reshape,
    "Resize": _resize,
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"), _reduce),
    "Slice": _slice,
    "Swish": _swish,
}
