"""Small ONNX models for tests, built by hand so that they can be broken by hand."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

RNG_SEED = 7


def value(name, shape, kind=TensorProto.FLOAT):
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name, array):
    """An initializer."""
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes, inputs, outputs, tensors=(), opset=17, ir_version=8, **extra):
    """A model of one graph."""
    graph = helper.make_graph(list(nodes), "network", list(inputs), list(outputs), list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, **extra)


def classifier(opset=17, size=12):
    """Convolution, batch norm, clip, pool, shape arithmetic, fully connected: (N, 3, size, size) to (N, 5)."""
    rng = np.random.default_rng(RNG_SEED)

    def random(name, *shape):
        return tensor(name, rng.standard_normal(shape).astype(np.float32) * 0.3)

    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["a"], "conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["b"], "bn"),
        helper.make_node("Clip", ["b", "low", "high"], ["c"], "clip"),
        helper.make_node("MaxPool", ["c"], ["d"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["d"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], "gather"),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batch1"], "unsqueeze"),
        helper.make_node("Concat", ["batch1", "rest"], ["target"], "concat", axis=0),
        helper.make_node("Reshape", ["d", "target"], ["e"], "reshape"),
        helper.make_node("Gemm", ["e", "fc.weight", "fc.bias"], ["y"], "fc", transB=1),
    ]
    tensors = [
        random("conv.weight", 8, 3, 3, 3),
        random("conv.bias", 8),
        random("bn.weight", 8),
        random("bn.bias", 8),
        random("bn.mean", 8),
        tensor("bn.var", np.full(8, 0.5, np.float32)),
        tensor("low", np.float32(-1)),
        tensor("high", np.float32(1)),
        tensor("zero", np.array(0)),
        tensor("axes", np.array([0])),
        tensor("rest", np.array([-1])),
        random("fc.weight", 5, 8 * (size // 2) ** 2),
        random("fc.bias", 5),
    ]
    return model(nodes, [value("x", ["N", 3, size, size])], [value("y", ["N", 5])], tensors, opset)


def transformer():
    """Patches, attention by MatMul and Softmax, LayerNormalization, Gelu: (N, 3, 8, 8) to (N, 4)."""
    rng = np.random.default_rng(RNG_SEED)

    def random(name, *shape):
        return tensor(name, rng.standard_normal(shape).astype(np.float32) * 0.3)

    nodes = [
        helper.make_node("Conv", ["x", "patch"], ["a"], "patches", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["a", "tokens"], ["b"], "tokens"),
        helper.make_node("Transpose", ["b"], ["t"], "transpose", perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["t", "ln.weight", "ln.bias"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "qkv"], ["q3"], "qkv"),
        helper.make_node("Split", ["q3", "thirds"], ["q", "k", "v"], "split", axis=2),
        helper.make_node("Einsum", ["q", "k"], ["scores"], "scores", equation="bid,bjd->bij"),
        helper.make_node("Softmax", ["scores"], ["weights"], "softmax", axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["mixed"], "mix"),
        helper.make_node("Add", ["mixed", "t"], ["sum"], "sum"),
        helper.make_node("Gelu", ["sum"], ["g"], "gelu"),
        helper.make_node("ReduceMean", ["g", "axis"], ["m"], "mean", keepdims=0),
        helper.make_node("Gemm", ["m", "fc.weight", "fc.bias"], ["y"], "fc", transB=1),
    ]
    tensors = [
        random("patch", 16, 3, 4, 4),
        tensor("tokens", np.array([0, 16, -1])),
        random("ln.weight", 16),
        random("ln.bias", 16),
        random("qkv", 16, 48),
        tensor("thirds", np.array([16, 16, 16])),
        tensor("axis", np.array([1])),
        random("fc.weight", 4, 16),
        random("fc.bias", 4),
    ]
    return model(nodes, [value("x", ["N", 3, 8, 8])], [value("y", ["N", 4])], tensors, 21, 10)


def with_random_weights(model: ModelProto) -> ModelProto:
    """A light model of the `onnx` package, which fills its weights with a constant and so tests no numerics."""
    rng = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    readers = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, (node.op_type, place))
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            nodes.append(node)
            continue
        shape, (op, place) = tuple(shapes[node.input[0]]), readers[node.output[0]]
        array = rng.standard_normal(shape) * 0.1
        if op == "BatchNormalization" and place in (1, 4):
            array = rng.random(shape) + 0.5
        elif len(shape) > 1:
            array *= 10 * np.sqrt(2 / np.prod(shape[1:]))
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    inputs = [value for value in model.graph.input if value.name not in shapes]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def in_another_engine(path, x):
    """What ONNX Runtime, or where that is not installed, the onnx package makes of a file."""
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        from onnx.reference import ReferenceEvaluator as InferenceSession

        session = InferenceSession(str(path))
    else:
        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]
