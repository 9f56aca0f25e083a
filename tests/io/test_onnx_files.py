"""Models from ONNX files and back: equal outputs, free sizes, weights by name, metadata, every older form."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import fastcnn as fc
from fastcnn.compiler.network import is_resolved
from fastcnn.errors import ModelLoadError
from fastcnn.io.image import Preprocess
from fastcnn.onnx_model import load_onnx

X = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)


def evaluate(model, x):
    """By the onnx package."""
    return ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})[0]


@pytest.fixture
def path(tmp_path):
    """A file with the small classifier."""
    onnx.save(build.classifier(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_classifier_becomes_operations_with_kernels_for_any_batch(path):
    model = fc.load(path)
    assert isinstance(model, fc.Model) and model.input_shape == (3, 12, 12)
    np.testing.assert_allclose(model(X), evaluate(build.classifier(), X), rtol=1e-5, atol=1e-5)
    assert is_resolved(model.graph())
    assert [row.op for row in model.summary().rows] == [
        "Conv",
        "BatchNormalization",
        "Clip",
        "MaxPool",
        "Flatten",
        "Gemm",
    ]
    assert list(model.state_dict())[:3] == ["conv.weight", "conv.bias", "bn.weight"]
    assert [name for name, _ in model.named_buffers()] == ["bn.mean", "bn.var"]
    assert model.predict_proba(X).shape == (3, 5)


def test_it_can_be_changed_copied_nested_saved_and_exported(path, tmp_path):
    model = fc.load(path)
    model.load_state_dict({name: array * 0.5 for name, array in model.state_dict().items()})
    expected = model(X)
    assert (copy.deepcopy(model)(X) == expected).all()
    assert (fc.Sequential(model, fc.ReLU())(X) == np.maximum(expected, 0)).all()
    model.save(tmp_path / "net.safetensors")
    assert (fc.load(tmp_path / "net.safetensors")(X) == expected).all()
    model.export_onnx(tmp_path / "again.onnx")
    np.testing.assert_allclose(evaluate(onnx.load(tmp_path / "again.onnx"), X), expected, rtol=1e-5, atol=1e-5)


def test_a_transformer_runs_on_kernels(tmp_path):
    onnx.save(build.transformer(), tmp_path / "vit.onnx")
    model = fc.load(tmp_path / "vit.onnx")
    x = X[:, :, :8, :8]
    expected = evaluate(build.transformer(), x)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(x[:1]), expected[:1], rtol=1e-5, atol=1e-5)
    kernels = {row.name: row.kernel for row in model.summary().rows}
    assert kernels["patches"] == "direct"
    assert "numpy" not in {step.kernel for step in model.profile(x, 2).steps}
    model.save(tmp_path / "vit.safetensors")
    assert (fc.load(tmp_path / "vit.safetensors")(x) == model(x)).all()
    model.export_onnx(tmp_path / "again.onnx")
    np.testing.assert_allclose(evaluate(onnx.load(tmp_path / "again.onnx"), x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fc.Sequential(model, fc.ReLU())(x), np.maximum(expected, 0), rtol=1e-5, atol=1e-5)
    before = model.state_dict()
    model.fit(x, np.zeros(len(x), int), epochs=1)
    assert any((model.state_dict()[name] != array).any() for name, array in before.items())


def test_a_network_that_looks_at_its_batch_is_refused_within_another():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape", end=1),
        helper.make_node("Cast", ["shape"], ["size"], "size", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "size"], ["y"], "times"),
    ]
    proto = build.model(nodes, [build.value("x", ["N", 5])], [build.value("y", ["N", 5])])
    model, x = load_onnx(proto.SerializeToString()), X.reshape(-1)[:20].reshape(4, 5)
    np.testing.assert_array_equal(model(x), 4 * x)
    with pytest.raises(ValueError, match=r"depends on the batch's size: it predicts, but cannot become part"):
        fc.Sequential(model)(x)


@pytest.mark.parametrize("seed", range(8))
def test_random_networks_are_exported(seed, tmp_path):
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(3, 20))
    activation = [
        fc.ReLU(),
        fc.ReLU6(),
        fc.LeakyReLU(0.1),
        fc.Tanh(),
        fc.Sigmoid(),
        fc.HardSwish(),
        fc.SiLU(),
        fc.GELU(),
    ]
    model = fc.Sequential(
        fc.Conv2d(3, channels, 3, int(rng.integers(1, 3)), padding="same" if seed % 2 else 1),
        fc.BatchNorm2d(channels),
        activation[seed % 8],
        fc.MaxPool2d(3, 2, 1),
        fc.Conv2d(channels, channels, 3, groups=channels, padding=1),
        activation[(seed + 1) % 8],
        fc.AvgPool2d(2, padding=1, count_include_pad=bool(seed % 2)),
        fc.Dropout(),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Linear(channels, 4),
        fc.Softmax(1),
    )
    model.input_shape = (3, 17, 20)
    model.export_onnx(tmp_path / "net.onnx")
    written = onnx.load(tmp_path / "net.onnx")
    assert (written.opset_import[0].version, written.ir_version) == (17, 8)
    x = rng.standard_normal((2, 3, 17, 20)).astype(np.float32)
    np.testing.assert_allclose(evaluate(written, x), model(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fc.load(tmp_path / "net.onnx")(x), model(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_transformer_layers_are_exported(approximate, tmp_path):
    """Gelu exists in files from opset 20 on: others spell it out."""
    model = fc.Sequential(fc.Flatten(), fc.LayerNorm(12), fc.Linear(12, 5), fc.GELU(approximate))
    model[1].weight, model[1].bias = np.linspace(1, 2, 12), np.linspace(-1, 1, 12)
    model.input_shape = (3, 2, 2)
    model.export_onnx(tmp_path / "net.onnx")
    written = onnx.load(tmp_path / "net.onnx")
    assert written.opset_import[0].version == 17 and "Gelu" not in {node.op_type for node in written.graph.node}
    x = np.random.default_rng(1).standard_normal((4, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(evaluate(written, x), model(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fc.load(tmp_path / "net.onnx")(x), model(x), rtol=1e-5, atol=1e-5)
    node = helper.make_node("Gelu", ["x"], ["y"], approximate=approximate)
    values = [build.value(name, [2, 3]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    newer = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    loaded = load_onnx(newer.SerializeToString())
    np.testing.assert_array_equal(loaded(x[:2, :, 0, 0]), fc.functional.gelu(x[:2, :, 0, 0], approximate))
    loaded.export_onnx(tmp_path / "newer.onnx")
    again = fc.load(tmp_path / "newer.onnx")
    np.testing.assert_allclose(again(x[:2, :, 0, 0]), loaded(x[:2, :, 0, 0]), rtol=1e-6, atol=1e-7)


def test_models_of_the_zoo_keep_their_steps(tmp_path):
    for name in ("resnet18", "mobilenet_v2", "squeezenet1_1"):
        model = getattr(fc.zoo, name)(num_classes=3)
        model.input_shape = (3, 48, 48)
        model.export_onnx(tmp_path / "net.onnx")
        loaded = fc.load(tmp_path / "net.onnx")
        assert loaded.state_dict().keys() == model.state_dict().keys()
        x = np.ones((1, 3, 48, 48), np.float32)
        steps, own = loaded.profile(x, 1).steps, model.profile(x, 1).steps
        assert [step.kernel for step in steps] == [step.kernel for step in own]
        assert (loaded(x) == model(x)).all()


def test_classes_and_preprocessing_travel_as_metadata(path, tmp_path):
    model = fc.load(path)
    assert model.classes is None
    model.classes = ["a", "b", "ç", "d", "e"]
    model.preprocess = Preprocess((12, 12), 1.0, "bilinear", (127.0,) * 3, (64.0,) * 3)
    model.export_onnx(tmp_path / "again.onnx")
    again = fc.load(tmp_path / "again.onnx")
    assert (again.classes, again.preprocess) == (model.classes, model.preprocess)
    named = build.classifier()
    helper.set_model_props(named, {"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}"})
    assert load_onnx(named.SerializeToString()).classes == ["a", "b", "c", "d", "e"]


def test_free_image_sizes():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["a"], ["b"], "pool"),
        helper.make_node("Flatten", ["b"], ["y"], "flat"),
    ]
    weight = build.tensor("w", np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32))
    proto = build.model(nodes, [build.value("x", ["N", 3, "H", "W"])], [build.value("y", ["N", 4])], [weight])
    model = load_onnx(proto.SerializeToString())
    assert model.input_shape is None and is_resolved(model._graph)
    for size in ((9, 12), (30, 7)):
        x = np.random.default_rng(1).standard_normal((2, 3, *size)).astype(np.float32)
        np.testing.assert_allclose(model(x), evaluate(proto, x), rtol=1e-5, atol=1e-5)


def test_a_batch_that_is_fixed_is_run_in_parts(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], "turn", perm=[1, 0]),
        helper.make_node("Softmax", ["a"], ["b"], "softmax", axis=1),
        helper.make_node("Transpose", ["b"], ["y"], "back", perm=[1, 0]),
    ]
    proto = build.model(nodes, [build.value("x", [2, 5])], [build.value("y", [2, 5])])
    model, x = load_onnx(proto.SerializeToString()), X.reshape(-1)[:30].reshape(6, 5)
    assert not is_resolved(model._graph)
    np.testing.assert_allclose(model(x), np.concatenate([evaluate(proto, x[i : i + 2]) for i in (0, 2, 4)]), rtol=1e-5)
    with pytest.raises(ValueError, match=r"input 'x': shape=\(3, 5\), expected \(2, 5\)"):
        model(x[:3])
    model.export_onnx(tmp_path / "again.onnx")
    np.testing.assert_array_equal(fc.load(tmp_path / "again.onnx")(x), model(x))


def test_types_of_inputs_are_converted():
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["a", "c"], ["y"], "div"),
    ]
    proto = build.model(
        nodes,
        [build.value("x", ["N", 3], TensorProto.UINT8)],
        [build.value("y", ["N", 3])],
        [build.tensor("c", np.float32(255))],
    )
    model = load_onnx(proto.SerializeToString())
    np.testing.assert_allclose(model(np.array([[0, 51, 255]])), [[0.0, 0.2, 1.0]], rtol=1e-6)


OLD = {
    "Clip": ({"min": -0.5, "max": 0.5}, 6),
    "Dropout": ({"ratio": 0.3}, 6),
    "Softmax": ({}, 11),
    "LogSoftmax": ({"axis": 2}, 11),
    "Squeeze": ({"axes": [1]}, 11),
    "Unsqueeze": ({"axes": [0]}, 11),
    "ReduceMean": ({"axes": [2, 3], "keepdims": 0}, 11),
    "Pad": ({"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 2.0}, 9),
    "Slice": ({"starts": [1], "ends": [-1], "axes": [3]}, 9),
    "Upsample": ({"scales": [1.0, 1.0, 2.0, 3.0]}, 7),
}


@pytest.mark.parametrize("op", OLD)
def test_forms_of_older_opsets(op):
    attrs, opset = OLD[op]
    shape = [2, 1, 4, 5]
    proto = build.model(
        [helper.make_node(op, ["x"], ["y"], "node", **attrs)],
        [build.value("x", shape)],
        [build.value("y", None)],
        opset=opset,
        ir_version=4,
    )
    x = X.reshape(-1)[:40].reshape(shape)
    got = load_onnx(proto.SerializeToString())(x)
    expected = {
        "Clip": np.clip(x, -0.5, 0.5),
        "Dropout": x,
        "Squeeze": x[:, 0],
        "Unsqueeze": x[None],
        "ReduceMean": x.mean((2, 3)),
        "Slice": x[..., 1:-1],
        "Upsample": x.repeat(2, 2).repeat(3, 3),
        "Pad": np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 1)), constant_values=2.0),
    }
    if op == "Softmax":
        e = np.exp(x.reshape(2, 20))
        expected[op] = (e / e.sum(1, keepdims=True)).reshape(shape)
    if op == "LogSoftmax":
        rows = x.reshape(2, 20)
        expected[op] = (rows - np.log(np.exp(rows).sum(1, keepdims=True))).reshape(shape)
    np.testing.assert_allclose(got, expected[op], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalisation_is_exported_by_channel(opset, tmp_path):
    """Of opset 18 scale and bias are by group; a file says so no longer, but its parameters stay as they are."""
    rng = np.random.default_rng(6)
    scale, bias = rng.standard_normal((2, 3 if opset == 18 else 12)).astype(np.float32)
    weight = rng.standard_normal((12, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", kernel_shape=[3, 3]),
        helper.make_node("GroupNormalization", ["a", "scale", "bias"], ["b"], "gn", num_groups=3, epsilon=1e-3),
        helper.make_node("Relu", ["b"], ["y"], "relu"),
    ]
    proto = build.model(
        nodes,
        [build.value("x", ["N", 3, 12, 12])],
        [build.value("y", None)],
        [build.tensor("w", weight), build.tensor("scale", scale), build.tensor("bias", bias)],
        opset,
        8,
    )
    model = load_onnx(proto.SerializeToString())
    a = fc.functional.conv2d(X.astype(np.float64), weight)
    groups = a.reshape(3, 3, -1)
    groups = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-3)
    by_channel = [np.repeat(v, 12 // v.size)[:, None, None] for v in (scale, bias)]
    expected = np.maximum(groups.reshape(a.shape) * by_channel[0] + by_channel[1], 0)
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)
    model.export_onnx(tmp_path / "again.onnx")
    written = onnx.load(tmp_path / "again.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert written.opset_import[0].version == 21
    np.testing.assert_allclose(evaluate(written, X), expected, rtol=1e-5, atol=1e-5)
    again = fc.load(tmp_path / "again.onnx")
    np.testing.assert_array_equal(again(X), model(X))
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


def test_outputs_that_nobody_reads_and_shapes_that_nobody_knows(tmp_path):
    nodes = [helper.make_node("TopK", ["x", "k"], ["y", ""], "top")]
    top = build.model(nodes, [build.value("x", ["N", 9])], [build.value("y", None)], [build.tensor("k", np.array([2]))])
    model, x = load_onnx(top.SerializeToString()), X.reshape(-1)[:27].reshape(3, 9)
    model.export_onnx(tmp_path / "again.onnx")
    for result in (model(x), evaluate(onnx.load(tmp_path / "again.onnx"), x), fc.load(tmp_path / "again.onnx")(x)):
        np.testing.assert_array_equal(result, np.sort(x)[:, :-3:-1])
    unknown = build.model(
        [helper.make_node("NonZero", ["x"], ["y"], "found")],
        [build.value("x", ["N", 9])],
        [build.value("y", None, TensorProto.INT64)],
    )
    model = load_onnx(unknown.SerializeToString())
    assert model(np.eye(1, 9)).tolist() == [[0], [0]]
    with pytest.raises(ValueError, match="export_onnx: output 'y': how many dimensions it has is not known"):
        model.export_onnx(tmp_path / "none.onnx")


def test_images_of_one_pixel_are_scores():
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["y"], "pool")]
    proto = build.model(nodes, [build.value("x", ["N", 3, 12, 12])], [build.value("y", None)])
    model = load_onnx(proto.SerializeToString())
    assert model(X).shape == (3, 3, 1, 1)
    scores = np.exp(X.mean((2, 3)))
    np.testing.assert_allclose(model.predict_proba(X), scores / scores.sum(1, keepdims=True), rtol=1e-5)


def test_squeeze_and_excite_has_kernels_throughout(tmp_path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"], "mean"),
        helper.make_node("HardSigmoid", ["m"], ["g"], "gate", alpha=1 / 6),
        helper.make_node("Mul", ["x", "g"], ["y"], "scale"),
    ]
    proto = build.model(nodes, [build.value("x", ["N", 3, 12, 12])], [build.value("y", None)])
    model = load_onnx(proto.SerializeToString())
    assert is_resolved(model._graph)
    np.testing.assert_allclose(model(X), evaluate(proto, X), rtol=1e-5, atol=1e-6)
    model.export_onnx(tmp_path / "again.onnx")
    np.testing.assert_allclose(evaluate(onnx.load(tmp_path / "again.onnx"), X), model(X), rtol=1e-5, atol=1e-6)


def response_of_pytorch(before, after, kernel=(5, 1, 1), shape=(0, 1, 7, 4, -1)):
    """Local response normalisation of (N, 7, 4, 4) as PyTorch's exporter writes it."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"], "square"),
        helper.make_node("Reshape", ["square", "wide"], ["a"], "view"),
        helper.make_node("Pad", ["a", "pads"], ["b"], "pad"),
        helper.make_node("AveragePool", ["b"], ["c"], "mean", kernel_shape=kernel),
        helper.make_node("Reshape", ["c", "back"], ["d"], "back"),
        helper.make_node("Mul", ["alpha", "d"], ["e"], "scale"),
        helper.make_node("Add", ["e", "k"], ["f"], "shift"),
        helper.make_node("Pow", ["f", "beta"], ["g"], "power"),
        helper.make_node("Div", ["x", "g"], ["y"], "div"),
    ]
    constants = {
        "wide": np.array(shape),
        "pads": np.array([0, 0, before, 0, 0, 0, 0, after, 0, 0]),
        "back": np.array([-1, 7, 4, 4]),
        "alpha": np.float32(0.8),
        "k": np.float32(2),
        "beta": np.float32(0.75),
    }
    return build.model(
        nodes,
        [build.value("x", ["N", 7, 4, 4])],
        [build.value("y", None)],
        [build.tensor(name, array) for name, array in constants.items()],
    )


@pytest.mark.parametrize(
    ("proto", "kernel"),
    [
        (response_of_pytorch(2, 2), True),
        (response_of_pytorch(1, 2, (4, 1, 1)), True),
        (response_of_pytorch(2, 1, (4, 1, 1)), False),  # as PyTorch's for even windows, which are not ONNX's
        (response_of_pytorch(1, 1, (3, 1, 1), (0, 7, 1, 4, -1)), False),  # neighbours of a channel of one: itself
        (response_of_pytorch(0, 0, (1, 1, 1)), True),
    ],
)
def test_local_response_normalisation_is_known_as_pytorch_writes_it(proto, kernel):
    model, x = load_onnx(proto.SerializeToString()), X.reshape(-1)[: 3 * 112].reshape(3, 7, 4, 4)
    np.testing.assert_allclose(model(x), evaluate(proto, x), rtol=1e-5, atol=1e-5)
    assert is_resolved(model._graph) == kernel
    assert not kernel or [row.op for row in model.summary().rows] == ["LRN"]


def test_several_outputs_are_chosen_by_name():
    nodes = [helper.make_node("Split", ["x", "sizes"], ["a", "b"], "split", axis=1)]
    proto = build.model(
        nodes,
        [build.value("x", ["N", 5])],
        [build.value("a", ["N", 2]), build.value("b", ["N", 3])],
        [build.tensor("sizes", np.array([2, 3]))],
    )
    x = X.reshape(-1)[:10].reshape(2, 5)
    assert (load_onnx(proto.SerializeToString(), output="b")(x) == x[:, 2:]).all()
    with pytest.raises(ModelLoadError, match=r"2 outputs \(a, b\): choose one by output='a'"):
        load_onnx(proto.SerializeToString())


def test_external_data_below_the_folder(path, tmp_path):
    onnx.save(
        build.classifier(), tmp_path / "ext.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert (fc.load(tmp_path / "ext.onnx")(X) == fc.load(path)(X)).all()
