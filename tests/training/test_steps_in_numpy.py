"""Networks with operations that NumPy computes train, tune, are evaluated, saved, cut and nested as others are."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import helper

import fastcnn as fc
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel
from fastcnn.training import Trainer

rng = np.random.default_rng(0)
X = rng.standard_normal((24, 3, 8, 8), np.float32)
Y = np.arange(24) % 4
W = rng.standard_normal((8, 3, 3, 3), np.float32)
V = rng.standard_normal((8, 4), np.float32)
MEAN = [("GlobalAveragePool", ["e"], "p", {}), ("Flatten", ["p"], "f", {})]
HEAD = [*MEAN, ("MatMul", ["f", "v"], "y", {})]
BEFORE = [("Sin", ["x"], "s", {}), ("Conv", ["s", "w"], "e", {}), *HEAD]
BEHIND = [("Conv", ["x", "w"], "c", {}), ("Round", ["c"], "e", {}), *HEAD]


def network(nodes, batch, path, **tensors):
    made = [helper.make_node(op, inputs, [output], output, **attrs) for op, inputs, output, attrs in nodes]
    given = [build.tensor(name, array) for name, array in ({"w": W, "v": V} | tensors).items()]
    onnx.save(build.model(made, [build.value("x", [batch, 3, 8, 8])], [build.value("y", None)], given), path)
    return fc.load(path)


@pytest.fixture(params=["N", 1, 2])
def batch(request):
    return request.param


def test_fit_and_evaluate(batch, tmp_path):
    model = network(BEFORE, batch, tmp_path / "n.onnx")
    first = model.evaluate(X, Y)
    history = model.fit(X, Y, epochs=20, batch_size=12, optimizer=fc.training.SGD(0.2), progress=False)
    assert history["loss"][-1] < 0.75 * history["loss"][0]
    assert model.evaluate(X, Y).accuracy > first.accuracy and first.count == 24


def test_a_step_is_that_of_the_network_without_numpy(batch, tmp_path):
    """An operation of NumPy before the first weights changes the inputs alone."""
    model = network(BEFORE, batch, tmp_path / "n.onnx")
    plain = network([("Conv", ["x", "w"], "e", {}), *HEAD], "N", tmp_path / "p.onnx")
    losses = [Trainer(model, fc.training.SGD(0.1)).step(X, Y) for _ in range(3)]
    expected = [Trainer(plain, fc.training.SGD(0.1)).step(np.sin(X), Y) for _ in range(3)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, array in plain.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], array, atol=1e-5)


def test_a_gradient_that_is_needed_is_refused_by_name(batch, tmp_path):
    model = network(BEHIND, batch, tmp_path / "n.onnx")
    with pytest.raises(ValueError, match=r"node 'e' \(ai.onnx::Round\) has no gradient"):
        model.fit(X, Y, epochs=1, progress=False)


def test_what_lies_behind_learns_while_the_rest_is_frozen(tmp_path):
    pooled = [*MEAN[:1], ("Flatten", ["p"], "y", {})]
    body = network([*BEHIND[:2], *pooled], 1, tmp_path / "n.onnx")
    model = fc.Sequential(body, fc.Linear(8, 4, rng=0))
    body.freeze()
    history = model.fit(X, Y, epochs=10, optimizer=fc.training.SGD(0.5), progress=False)
    assert history["loss"][-1] < history["loss"][0]
    np.testing.assert_array_equal(body.w, W)
    model.input_shape = (3, 8, 8)
    model.save(tmp_path / "n.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "n.safetensors")(X), model(X))


def test_tune_and_another_head(batch, tmp_path):
    model = network(BEHIND, batch, tmp_path / "n.onnx")
    expected = model(X)
    model.tune(X[:2], repeats=1)
    np.testing.assert_allclose(model(X), expected, rtol=1e-4, atol=1e-5)
    model.replace_head(3)
    assert model.predict_proba(X).shape == (24, 3)


def test_files_give_the_same_bits(batch, tmp_path):
    model = network(BEHIND, batch, tmp_path / "n.onnx")
    model.save(tmp_path / "n.safetensors")
    model.export_onnx(tmp_path / "again.onnx")
    for name in ("n.safetensors", "again.onnx"):
        np.testing.assert_array_equal(fc.load(tmp_path / name)(X), model(X))


def test_a_graph_for_one_batch_stays_in_files(tmp_path):
    """A sum over the batch: it takes batches of its own size."""
    nodes = [("CumSum", ["x", "axis"], "s", {}), ("Conv", ["s", "w"], "e", {}), *HEAD]
    model = network(nodes, 4, tmp_path / "n.onnx", axis=np.array(0))
    model.save(tmp_path / "n.safetensors")
    again = fc.load(tmp_path / "n.safetensors", strict=False)
    np.testing.assert_array_equal(again(X), model(X))
    assert again.evaluate(X, Y, batch_size=8).count == 24
    with pytest.raises(fc.ModelLoadError, match="strict: only NumPy computes s"):
        fc.load(tmp_path / "n.safetensors", strict=True)
    with pytest.raises(ValueError, match="depends on the batch's size"):
        model.fit(X, Y, epochs=1, progress=False)


def test_integers_and_tables_within_a_network_that_is_nested(tmp_path):
    """Constants of other types keep them where the network is a layer."""
    nodes = [
        ("ArgMax", ["x"], "i", {"axis": 1}),
        ("Gather", ["table", "i"], "t", {"axis": 0}),
        ("Mul", ["x", "t"], "m", {}),
        ("Conv", ["m", "w"], "e", {}),
        *HEAD,
    ]
    table = np.array([0.5, 1, 2], np.float32)
    model = network(nodes, "N", tmp_path / "n.onnx", table=table)
    nested = fc.Sequential(model, fc.ReLU())
    picked = table[X.argmax(1, keepdims=True)]
    expected = fc.functional.conv2d(X * picked, W).mean((2, 3)) @ V
    np.testing.assert_allclose(model(X), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(nested(X), np.maximum(model(X), 0))
    assert nested.fit(X, Y, epochs=2, progress=False)["loss"][1] > 0


def test_a_step_that_fails_changes_nothing(monkeypatch):
    """Of an update either all parameters follow the gradient, or none."""
    nodes = [
        Node("ai.onnx::Sin", "sine", ("x",), "s", {}),
        Node("Gemm", "fc", ("s", "v"), "y", {}),
    ]
    model = GraphModel(Graph(nodes, {"x": (None, 8)}, ["y"], {"v": V.T.copy()}))
    trainer, before = Trainer(model, fc.training.SGD(0.1)), model.v.copy()
    x = X.reshape(24, -1)[:, :8].copy()
    trainer.step(x, Y)
    after = model.v.copy()
    assert not np.array_equal(before, after)

    def fails(x):
        raise RuntimeError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(nodes[0].kind, "function", fails)
        with pytest.raises(ValueError, match=r"node 'sine' \(ai.onnx::Sin\): RuntimeError: no more"):
            trainer.step(x, Y)
    np.testing.assert_array_equal(model.v, after)
    assert trainer.step(x, Y) > 0


@pytest.mark.parametrize(
    ("nodes", "is_free"),
    [
        ([("MaxPool", ["d"], "m", {"kernel_shape": [1, 1, 1]})], True),
        ([("LogSoftmax", ["d"], "m", {"axis": 2})], True),
        ([("LogSoftmax", ["d"], "m", {"axis": -5})], False),
        ([("CumSum", ["d", "one"], "m", {})], False),
        ([("ReduceProd", ["d"], "m", {"axes": [-1], "keepdims": 1})], True),
        ([("ReduceProd", ["d"], "m", {"axes": [0], "keepdims": 1})], False),
    ],
)
def test_a_batch_that_the_exporter_has_fixed_is_free_where_images_are_apart(nodes, is_free, tmp_path):
    """Values of five axes, which NumPy computes."""
    before = [("Reshape", ["x", "five"], "d", {})]
    behind = [("Reshape", ["m", "four"], "e", {}), ("ReduceMean", ["e"], "p", {"axes": [2, 3], "keepdims": 1})]
    last = [("Conv", ["p", "w"], "q", {}), ("Flatten", ["q"], "y", {})]
    sizes = {"five": np.array([1, 3, 4, 4, 4]), "four": np.array([1, 3, 4, -1]), "one": np.array(1)}
    path = tmp_path / "n.onnx"
    model = network([*before, *nodes, *behind, *last], 1, path, w=W[:4, :, :1, :1].copy(), **sizes)
    expected = np.concatenate([model(x[None]) for x in X])
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-6)
    if is_free:
        assert model.fit(X, Y, epochs=1, batch_size=8, progress=False)["loss"][0] > 0
    else:
        with pytest.raises(ValueError, match="depends on the batch's size"):
            model.fit(X, Y, epochs=1, progress=False)


@pytest.mark.parametrize("turned", [False, True])
def test_all_weights_of_a_network_for_images_of_any_size_learn(turned, tmp_path):
    """What the sizes decide is resolved for each, but weights are the same for all."""
    nodes = [
        ("Conv", ["x", "w"], "e", {}),
        *MEAN,
        ("Shape", ["x"], "shape", {}),
        ("Gather", ["shape", "two"], "height", {"axis": 0}),
        ("Cast", ["height"], "scale", {"to": 1}),
        ("Mul", ["f", "scale"], "g", {}),
        *([("Transpose", ["v"], "vt", {})] if turned else []),
        ("MatMul", ["g", "vt" if turned else "v"], "y", {}),
    ]
    made = [helper.make_node(op, inputs, [output], output, **attrs) for op, inputs, output, attrs in nodes]
    weights = V.T.copy() if turned else V
    tensors = [build.tensor(name, array) for name, array in {"w": W, "v": weights, "two": np.array([2])}.items()]
    onnx.save(
        build.model(made, [build.value("x", ["N", 3, "H", "W"])], [build.value("y", None)], tensors),
        tmp_path / "n.onnx",
    )
    model = fc.load(tmp_path / "n.onnx")
    before = {name: array.copy() for name, array in model.state_dict().items()}
    assert len(before) == 2
    for size in (8, 6):
        x = X[:, :, :size, :size]
        np.testing.assert_allclose(model(x), size * fc.functional.conv2d(x, W).mean((2, 3)) @ V, rtol=1e-4, atol=1e-4)
    model.fit(X, Y, epochs=1, progress=False)
    assert all(not np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert model(X[:, :, :6, :6]).shape == (24, 4)


@pytest.mark.parametrize("nested", [False, True])
def test_pixels_of_a_network_that_takes_bytes(nested, tmp_path):
    """It predicts for bytes, and learns from the same numbers."""
    nodes = [
        ("Cast", ["x"], "a", {"to": 1}),
        ("Mul", ["a", "hundredth"], "s", {}),
        ("Conv", ["s", "w"], "e", {}),
        *HEAD,
    ]
    made = [helper.make_node(op, inputs, [output], output, **attrs) for op, inputs, output, attrs in nodes]
    tensors = [build.tensor(name, array) for name, array in {"w": W, "v": V, "hundredth": np.float32(0.01)}.items()]
    pixels = build.value("x", ["N", 3, 8, 8], onnx.TensorProto.UINT8)
    onnx.save(build.model(made, [pixels], [build.value("y", None)], tensors), tmp_path / "n.onnx")
    given, x = fc.load(tmp_path / "n.onnx"), np.random.default_rng(3).integers(0, 256, X.shape, np.uint8)
    expected = fc.functional.conv2d(x * np.float32(0.01), W).mean((2, 3)) @ V
    np.testing.assert_allclose(given(x), expected, rtol=1e-4, atol=1e-3)
    model = fc.Sequential(given) if nested else given
    first = model.fit(x, Y, epochs=3, optimizer=fc.training.SGD(1e-7), progress=False)["loss"]
    assert first[2] < first[0] and model.evaluate(x, Y).count == 24
    np.testing.assert_allclose(model(x), given(x.astype(np.uint8)), rtol=1e-5, atol=1e-4)
    assert model.tune(x[:2], repeats=1)


ACTIVATIONS = {
    "Elu": {"alpha": 0.7},
    "Selu": {},
    "Celu": {"alpha": 0.6},
    "PRelu": {},
    "Softplus": {},
    "Softsign": {},
    "Mish": {},
    "Sin": {},
    "Cos": {},
    "Atan": {},
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_in_numpy_have_gradients(activation, tmp_path):
    """A step of SGD changes weights by the differences of the loss that the network computes."""
    slope = {"s": rng.uniform(-0.5, 0.5, (8, 1, 1)).astype(np.float32)}
    operands, tensors = (["c", "s"], slope) if activation == "PRelu" else (["c"], {})
    nodes = [("Conv", ["x", "w"], "c", {}), (activation, operands, "e", ACTIVATIONS[activation]), *HEAD]
    model = network(nodes, "N", tmp_path / "n.onnx", **tensors)
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    assert len(before) == 2 + len(tensors)

    def loss():
        scores = model(X).astype(np.float64)
        return (np.log(np.exp(scores).sum(1)) - scores[np.arange(24), Y]).mean()

    Trainer(model, fc.training.SGD(1.0)).step(X, Y)
    after = {name: np.array(array) for name, array in model.state_dict().items()}
    for name, array in before.items():
        for at in [tuple(int(rng.integers(size)) for size in array.shape) for _ in range(3)]:
            ends = []
            for step in (5e-3, -5e-3):
                moved = {**before, name: array.copy()}
                moved[name][at] += step
                model.load_state_dict(moved)
                ends.append(loss())
            expected = (ends[0] - ends[1]) / 1e-2
            assert array[at] - after[name][at] == pytest.approx(expected, rel=2e-2, abs=5e-4), (name, at)
