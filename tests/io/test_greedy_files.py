"""Small files whose numbers are made huge, ONNX's of one operator each and our own: whatever comes of them, they keep
to `max_bytes`, and none takes long."""

from __future__ import annotations

import json
import signal
import tracemalloc
from contextlib import contextmanager

import numpy as np
import onnx_builders as build
from general_cases import random_case
from onnx import TensorProto, helper, numpy_helper

from fastcnn import ops
from fastcnn.errors import ModelLoadError
from fastcnn.io.weights import write_safetensors
from fastcnn.loading import load
from fastcnn.onnx_model import load_onnx
from fastcnn.ops.general import DOMAIN, TABLE

MAX_BYTES = 8 << 20
# What Python's objects take beside arrays, and the code that is loaded when it is first needed.
OBJECTS = 4 << 20
# Tells a hang from an answer.
SECONDS = 120
HUGE = (0, 1, 2, 3, 40, 1000, 65_537, 10**6, 10**7, 10**9, 2**31 - 1, 2**31, 2**40, 2**62, -1, -2, -1000, -(2**40))
FLOATS = (0.0, 1e-8, 1e-3, 0.3, 1e4, 1e9, 1e30, -1.0, float("inf"), float("nan"))


def small(array):
    """The array, none of whose sizes is beyond 12: so that only what is made huge is."""
    return array if array is None else np.ascontiguousarray(array[tuple(slice(0, 12) for _ in array.shape)])


def whole(name, rng):
    """A model of one operator as it should be."""
    inputs, attrs = random_case(name, rng)
    outputs = attrs.pop("output", 0) + 1
    inputs = [small(x) if i == 0 or name not in ("GatherElements", "GatherND") else x for i, x in enumerate(inputs)]
    names = ["x", *[f"c{i}" if array is not None else "" for i, array in enumerate(inputs[1:])]]
    node = helper.make_node(name, names, [*[f"o{i}" for i in range(outputs - 1)], "y"], **attrs)
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    constants = [build.tensor(f"c{i}", array) for i, array in enumerate(inputs[1:]) if array is not None]
    x = inputs[0]
    constant = x.ndim == 0 or rng.random() < 0.2  # then it is folded
    nodes, first = [node], build.value("x", x.shape, kind)
    if constant:
        constants.append(build.tensor("x", x))
        nodes.append(helper.make_node("Identity", ["given"], ["rest"]))
        first = build.value("given", [1, 2])
    return build.model(nodes, [first], [build.value("y", None)], constants, 21, 10)


def grow(model, rng):
    """Make one number huge, in place."""
    graph = model.graph
    number, kind = int(rng.choice(HUGE)), int(rng.integers(4))
    node = graph.node[0]
    integers = (TensorProto.INT64, TensorProto.INT32)
    whole_numbers = [tensor for tensor in graph.initializer if tensor.data_type in integers]
    if kind == 0 and node.attribute:
        attribute = node.attribute[int(rng.integers(len(node.attribute)))]
        if attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = number
        elif attribute.type == 2:
            attribute.i = number
        elif attribute.type == 1:
            attribute.f = float(rng.choice(FLOATS))
    elif kind == 1 and whole_numbers:
        edit(whole_numbers[int(rng.integers(len(whole_numbers)))], number, rng)
    elif kind == 2 and graph.initializer:
        tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
        edit(tensor, float(rng.choice(FLOATS)) if tensor.data_type in (1, 11) else number, rng)
    else:
        dims = graph.input[0].type.tensor_type.shape.dim
        if len(dims):
            dims[int(rng.integers(len(dims)))].dim_value = abs(number) % 2**31


def edit(tensor, number, rng):
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        with np.errstate(all="ignore"):
            array.reshape(-1)[int(rng.integers(array.size))] = np.asarray(number).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@contextmanager
def deadline():
    """A file that takes too long ends the test, where the interpreter is still listening."""

    def late(*_):
        raise AssertionError(f"longer than {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def peak_of(run):
    """Bytes that loading and the first prediction took at most; and whether there was one."""
    tracemalloc.start()
    done = False
    try:
        with deadline():
            run()
            done = True
    except (ModelLoadError, ValueError, TypeError):
        pass
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return taken, done


def test_onnx_files_keep_to_their_budget(budget):
    rng = np.random.default_rng(77)
    names = sorted(name.removeprefix(DOMAIN) for name in TABLE)
    ran = 0
    for i in range(budget(400, 20_000)):
        name = names[i % len(names)]
        model = whole(name, rng)
        for _ in range(int(rng.integers(0, 3))):
            grow(model, rng)
        content = model.SerializeToString()

        def run(content=content):
            network = load_onnx(content, max_bytes=MAX_BYTES)
            ((_, shape),) = network._graph.inputs.items()
            if None not in shape[1:]:
                network(np.zeros((shape[0] or 1, *shape[1:]), network._input_type))

        taken, done = peak_of(run)
        ran += done
        assert taken <= MAX_BYTES + OBJECTS + 2 * len(content), f"{name} ({i}): {taken} bytes: {model}"
    assert ran > 100


# -- our own format -----------------------------------------------------------------------------------

SHAPE = (4, 10, 10)
WEIGHTS = {"w": np.ones((4, 4, 3, 3), np.float32), "d": np.ones((4, 1, 3, 3), np.float32), "b": np.ones(4, np.float32)}
WINDOW = {"kernel_shape": (2, 2)}
NODES = {
    "Conv": (("x", "w", "b"), {"pads": (1, 1, 1, 1)}),
    "MaxPool": (("x",), WINDOW),
    "AveragePool": (("x",), WINDOW),
    "Pad": (("x",), {"pads": (0, 0, 1, 1, 0, 0, 1, 1)}),
    "LRN": (("x",), {"size": 3}),
    "Slice": (("x",), {"axis": 2, "start": 1, "end": 5}),
    "Concat": (("x", "x"), {}),
    "Softmax": (("x",), {}),
    "Transpose": (("x",), {"perm": (0, 2, 3, 1)}),
    "Reshape": (("x",), {"shape": (0, 40, -1)}),
    "Add": (("x", "x"), {}),
    "BatchNormalization": (("x", "b", "b", "b", "b"), {}),
    "GlobalAveragePool": (("x",), {}),
    "Relu": (("x",), {}),
}


def own_graph(rng):
    """The JSON of a few nodes, some of whose numbers are huge; some compute from constants alone."""
    nodes, values = [], ["x", "x", "x"]
    for i in range(int(rng.integers(1, 5))):
        op = str(rng.choice(list(NODES)))
        inputs, given = NODES[op]
        attrs = {**ops.get(op).defaults, **given}
        inputs = [str(rng.choice(values)) if name == "x" else name for name in inputs]
        if op == "Conv" and rng.random() < 0.4:
            inputs[1], attrs["group"] = "d", 4
        if inputs[0] == "x" and rng.random() < 0.2:
            inputs[0] = "w"
        for key, value in attrs.items():
            if rng.random() < 0.15 and isinstance(value, (int, tuple)):
                numbers = list(value) if isinstance(value, tuple) else [value]
                places = range(len(numbers)) if rng.random() < 0.5 else [int(rng.integers(max(1, len(numbers))))]
                numbers = [int(rng.choice(HUGE)) if k in places else item for k, item in enumerate(numbers)]
                attrs[key] = tuple(numbers) if isinstance(value, tuple) else numbers[0]
        nodes.append([op, f"n{i}", inputs, f"v{i}", attrs])
        values.append(f"v{i}")
    return json.dumps({"version": 1, "inputs": {"x": [None, *SHAPE]}, "outputs": [values[-1]], "nodes": nodes})


def test_our_own_files_keep_to_their_budget(budget, tmp_path):
    rng = np.random.default_rng(78)
    path, ran = tmp_path / "small.safetensors", 0
    for i in range(budget(400, 20_000)):
        graph = own_graph(rng)
        write_safetensors(
            path,
            WEIGHTS,
            {
                "format": "fastcnn",
                "format_version": "1",
                "graph": graph,
                "buffers": "[]",
                "input_shape": json.dumps(SHAPE),
            },
        )

        def run():
            load(path, max_bytes=MAX_BYTES)(np.zeros((1, *SHAPE), np.float32))

        taken, done = peak_of(run)
        ran += done
        assert taken <= MAX_BYTES + OBJECTS, f"{i}: {taken} bytes: {graph}"
    assert ran > 50
