"""Files that repeat numbers for each image of a batch, as exported transformers do: one graph serves all batches."""

from __future__ import annotations

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import fastcnn as fc
from fastcnn import ops
from fastcnn.compiler import batch
from fastcnn.graph.ir import Graph, Node

RNG = np.random.default_rng(0)
TOKENS, WIDTH = 6, 8


def random_numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32) / 2


def class_token(size):
    """A class token is repeated and put before the others; queries, keys and values are split and squeezed."""
    given = {
        "cls_token": random_numbers(1, 1, WIDTH),
        "pos_embed": random_numbers(1, TOKENS + 1, WIDTH),
        "qkv": random_numbers(WIDTH, 3 * WIDTH),
        "head": random_numbers(WIDTH, 4),
        "one": np.array([1]),
        "first": np.array(0),
        "all": np.array([-1]),
        "parts": np.array([0, TOKENS + 1, 3, 2, WIDTH // 2]),
        "rows": np.array([0, TOKENS + 1, WIDTH]),
        "axis": np.array([0]),
        "width": np.array([1, WIDTH]),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["size"]),
        helper.make_node("Concat", ["size", "width"], ["sizes"], axis=0),
        helper.make_node("Expand", ["cls_token", "sizes"], ["classes"]),
        helper.make_node("Concat", ["classes", "x"], ["joined"], axis=1),
        helper.make_node("Add", ["joined", "pos_embed"], ["placed"]),
        helper.make_node("MatMul", ["placed", "qkv"], ["products"]),
        helper.make_node("Reshape", ["products", "parts"], ["apart"]),
        helper.make_node("Transpose", ["apart"], ["turned"], perm=[2, 0, 3, 1, 4]),
        helper.make_node("Split", ["turned"], ["q1", "k1", "v1"], axis=0),
        *[helper.make_node("Squeeze", [f"{name}1", "axis"], [name]) for name in "qkv"],
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["heads"]),
        helper.make_node("Transpose", ["heads"], ["tokens"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["tokens", "rows"], ["merged"]),
        helper.make_node("Gather", ["merged", "first"], ["chosen"], axis=1),
        helper.make_node("MatMul", ["chosen", "head"], ["y"]),
    ]
    return nodes, given, (size, TOKENS, WIDTH)


def gathered(size):
    """Queries, keys and values are taken by their numbers, three as the images of a batch may be."""
    nodes, given, shape = class_token(size)
    take = [helper.make_node("Gather", ["turned", f"number{i}"], [name], axis=0) for i, name in enumerate("qkv")]
    first = next(i for i, node in enumerate(nodes) if node.op_type == "Split")
    given = given | {f"number{i}": np.array(i) for i in range(3)}
    return [*nodes[:first], *take, *nodes[first + 4 :]], given, shape


def tokens_first(size):
    """Attention as PyTorch's own layer has it: tokens come before images, and heads beside these."""
    given = {
        "qkv": random_numbers(WIDTH, 3 * WIDTH),
        "head": random_numbers(WIDTH, 4),
        "first": np.array(0),
        "second": np.array([1]),
        "heads": np.array([2]),
        "tokens": np.array([TOKENS]),
        "size of a head": np.array([WIDTH // 2]),
        "width": np.array([WIDTH]),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Shape", ["turned"], ["shape"]),
        helper.make_node("Gather", ["shape", "second"], ["images"]),
        helper.make_node("Mul", ["images", "heads"], ["all heads"]),
        helper.make_node("Concat", ["tokens", "all heads", "size of a head"], ["parts"], axis=0),
        helper.make_node("Concat", ["tokens", "images", "width"], ["rows"], axis=0),
        helper.make_node("MatMul", ["turned", "qkv"], ["products"]),
        helper.make_node("Split", ["products"], ["q1", "k1", "v1"], axis=2),
        *[helper.make_node("Reshape", [f"{name}1", "parts"], [f"{name}2"]) for name in "qkv"],
        *[helper.make_node("Transpose", [f"{name}2"], [name], perm=[1, 0, 2]) for name in "qv"],
        helper.make_node("Transpose", ["k2"], ["k"], perm=[1, 2, 0]),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["mixed tokens"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["mixed tokens", "rows"], ["merged"]),
        helper.make_node("Gather", ["merged", "first"], ["chosen"], axis=0),
        helper.make_node("MatMul", ["chosen", "head"], ["y"]),
    ]
    return nodes, given, (size, TOKENS, WIDTH)


def gates(size):
    """Gates of channels are spread over images before they multiply; two outputs are stacked, and their mean taken."""
    given = {
        "conv": random_numbers(5, 3, 1, 1),
        "a": random_numbers(5, 4),
        "b": random_numbers(5, 4),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["m"]),
        helper.make_node("Sigmoid", ["m"], ["s"]),
        helper.make_node("Shape", ["c"], ["shape"]),
        helper.make_node("Expand", ["s", "shape"], ["gate"]),
        helper.make_node("Mul", ["c", "gate"], ["gated"]),
        helper.make_node("ReduceMean", ["gated"], ["f"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["f", "a"], ["one"]),
        helper.make_node("MatMul", ["f", "b"], ["two"]),
        *[helper.make_node("Unsqueeze", [name, "axis"], [f"{name}:row"]) for name in ("one", "two")],
        helper.make_node("Concat", ["one:row", "two:row"], ["both"], axis=0),
        helper.make_node("ReduceMean", ["both"], ["y"], axes=[0], keepdims=0),
    ]
    return nodes, given, (size, 3, 4, 5)


def rows(size):
    """A batch normalisation of rows (N, C), and one of signals (N, C, L)."""
    given = {"w": random_numbers(6, 5), "head": random_numbers(5, 4), "axes": np.array([2])}
    for part, value in (("scale", 1.5), ("bias", 0.1), ("mean", 0.2), ("var", 0.5)):
        given |= {f"{part}{channels}": np.full(channels, value, np.float32) for channels in (5, 3)}
    nodes = [
        helper.make_node("BatchNormalization", ["x", "scale3", "bias3", "mean3", "var3"], ["signals"]),
        helper.make_node("Relu", ["signals"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["r"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("BatchNormalization", ["m", "scale5", "bias5", "mean5", "var5"], ["n"]),
        helper.make_node("MatMul", ["n", "head"], ["y"]),
    ]
    return nodes, given, (size, 3, 6)


def loaded(file, size, path):
    nodes, given, shape = file(size)
    inputs = [build.value("x", list(shape))]
    tensors = [build.tensor(name, array) for name, array in given.items()]
    proto = build.model(nodes, inputs, [build.value("y", [size, 4])], tensors)
    path.write_bytes(proto.SerializeToString())
    return fc.load(path), proto, shape[1:]


@pytest.mark.parametrize("file", [class_token, gathered, tokens_first, gates, rows])
def test_predictions_of_any_batch(file, tmp_path, isa):
    model, proto, shape = loaded(file, "N", tmp_path / "n.onnx")
    for size in (1, 2, 3, 5):
        x = random_numbers(size, *shape)
        (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
        np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "size"),
    [
        (class_token, "N"),
        (class_token, 1),
        (gathered, "N"),
        (gathered, 1),
        (tokens_first, "N"),
        (gates, "N"),
        (rows, "N"),
        (rows, 1),
    ],
)
def test_all_that_the_file_gives_is_trained(file, size, tmp_path):
    model, _, shape = loaded(file, size, tmp_path / "n.onnx")
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    trainer = fc.Trainer(model, fc.SGD(0.5))
    x = random_numbers(8, *shape)
    losses = [trainer.step(x, np.arange(8) % 4) for _ in range(8)]
    assert losses[-1] < losses[0]
    numbers = {name: array for name, array in model.state_dict().items() if array.ndim}
    assert numbers and all((array != before[name]).any() for name, array in numbers.items())


def test_a_class_token_keeps_its_name_and_is_saved(tmp_path):
    model, proto, shape = loaded(class_token, "N", tmp_path / "n.onnx")
    assert model.state_dict()["cls_token"].shape == (1, 1, WIDTH)
    x = random_numbers(3, *shape)
    for name in ("again.safetensors", "again.onnx"):
        if name.endswith("onnx"):
            model.export_onnx(tmp_path / name)
        else:
            model.save(tmp_path / name)
        np.testing.assert_allclose(fc.load(tmp_path / name)(x), model(x), rtol=1e-5, atol=1e-6)
    (expected,) = ReferenceEvaluator(str(tmp_path / "again.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(expected, model(x), rtol=1e-4, atol=1e-5)


def test_a_batch_that_changes_its_axis_goes_through_in_parts(tmp_path, monkeypatch):
    model, _, shape = loaded(class_token, "N", tmp_path / "n.onnx")
    monkeypatch.setattr(batch, "part_size", lambda *_: 2)
    x = random_numbers(16, *shape)
    together = model(x)
    assert model._compiled(16, x).plan.parts == 8
    assert np.array_equal(together, np.concatenate([model(image[None]) for image in x]))


def between(*nodes, shape=(None, 3, 4), **constants):
    made = [
        Node(op, output, tuple(names), output, {**ops.get(op).defaults, **attrs}) for op, output, names, attrs in nodes
    ]
    return Graph(made, {"x": shape}, [made[-1].output], constants)


@pytest.mark.parametrize(
    "graph",
    [
        between(("Transpose", "t", ["x"], {"perm": (1, 0, 2)}), ("Reshape", "y", ["t"], {"shape": (-1, 3, 4)})),
        between(("Softmax", "y", ["x"], {"axis": 0})),
        between(("Transpose", "t", ["x"], {"perm": (1, 0, 2)}), ("Softmax", "s", ["t"], {"axis": 1}),
                ("Transpose", "y", ["s"], {"perm": (1, 0, 2)})),
        between(("MatMul", "m", ["x", "x"], {"trans_b": 1}), ("Transpose", "t", ["m"], {"perm": (1, 2, 0)}),
                ("MatMul", "u", ["t", "m"], {}), ("Transpose", "y", ["u"], {"perm": (2, 0, 1)})),
    ],
)  # fmt: skip
def test_where_images_meet_is_found(graph):
    assert not batch.is_separable(graph, {"x": (3, 3, 4)})
    assert not batch.is_separable(graph, {"x": (7, 3, 4)})


@pytest.mark.parametrize("sizes", [("H", "W"), ("L",)])
def test_weights_learn_where_the_file_leaves_sizes_free_that_it_needs(sizes, tmp_path):
    """The file is resolved for the size of each batch: what is made of its weights then still belongs to them."""
    given = {"conv": random_numbers(5, 3, *(1 for _ in sizes)), "w": random_numbers(320, 4)}
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    tensors = [build.tensor(name, array) for name, array in given.items()]
    proto = build.model(nodes, [build.value("x", ["N", 3, *sizes])], [build.value("y", ["N", 4])], tensors)
    (tmp_path / "free.onnx").write_bytes(proto.SerializeToString())
    model, shape = fc.load(tmp_path / "free.onnx"), (3, *((8, 8) if len(sizes) == 2 else (64,)))
    trainer = fc.Trainer(model, fc.SGD(0.5))
    x = random_numbers(8, *shape)
    losses = [trainer.step(x, np.arange(8) % 4) for _ in range(4)]
    assert losses[-1] < losses[0]
    after = model.state_dict()
    assert {name for name, array in given.items() if (after[name] != array).any()} == {"conv", "w"}
    changed = [helper.make_node(node.op_type, node.input, node.output) for node in nodes]
    tensors = [build.tensor(name, np.asarray(after[name])) for name in given]
    proto = build.model(changed, [build.value("x", ["N", 3, *sizes])], [build.value("y", ["N", 4])], tensors)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
