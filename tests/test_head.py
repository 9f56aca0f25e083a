"""Another last layer for networks of every kind; editing by name works or is refused; batches of any size."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastcnn as fc

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3, 8, 8)).astype(np.float32)
ARRAYS = {
    "conv.weight": RNG.standard_normal((8, 3, 3, 3)).astype(np.float32) / 5,
    "fc.weight": RNG.standard_normal((10, 8)).astype(np.float32),
    "fc.bias": RNG.standard_normal(10).astype(np.float32),
    "row": RNG.standard_normal((1, 10)).astype(np.float32),
    "product": RNG.standard_normal((8, 10)).astype(np.float32),
    "last": RNG.standard_normal((10, 8, 1, 1)).astype(np.float32),
    "one": np.array([1, 8]),
    "ten": np.array([1, 10]),
}
BODY = [("Conv", ["x", "conv.weight"], ["c"]), ("Relu", ["c"], ["r"]), ("GlobalAveragePool", ["r"], ["p"])]
FLAT = [*BODY, ("Flatten", ["p"], ["f"])]
GEMM = ("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], {"transB": 1})
MATMUL = ("MatMul", ["f", "product"], ["m"])
NETWORKS = {
    "Gemm": [*FLAT, GEMM],
    "batch of 1": [*BODY, ("Reshape", ["p", "one"], ["f"]), GEMM],
    "reshaped to the classes": [*FLAT, ("Gemm", GEMM[1], ["z"], {"transB": 1}), ("Reshape", ["z", "ten"], ["y"])],
    "MatMul and Add": [*FLAT, MATMUL, ("Add", ["m", "fc.bias"], ["y"])],
    "a row added, softmax": [*FLAT, MATMUL, ("Add", ["row", "m"], ["z"]), ("Softmax", ["z"], ["y"], {"axis": 1})],
    "convolution": [
        *BODY[:2],
        ("Conv", ["r", "last"], ["d"]),
        ("GlobalAveragePool", ["d"], ["q"]),
        ("Flatten", ["q"], ["y"]),
    ],
    "no kernel": [BODY[0], ("Sin", ["c"], ["r"]), *FLAT[2:], GEMM],
}


def loaded(folder, nodes, batch: int | str = "N"):
    made = [helper.make_node(op, ins, outs, **(attrs[0] if attrs else {})) for op, ins, outs, *attrs in nodes]
    used = {name for _, ins, *_ in nodes for name in ins}
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in ARRAYS.items() if name in used],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "n.onnx")
    return fc.load(folder / "n.onnx")


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_imported_network_gets_another_head(name, batch, tmp_path):
    if name in ("batch of 1", "reshaped to the classes"):
        batch = 1
    model = loaded(tmp_path, NETWORKS[name], batch)
    assert model(X[:1]).shape == (1, 10)
    model.classes = [str(i) for i in range(10)]
    assert model.replace_head(3, rng=0) is model and model.classes is None
    assert model(X[:1]).shape == (1, 3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(X[:1]), model(X[:1]))
    if name == "no kernel":
        return  # it predicts only
    for layer in model.named_children():
        layer[1].freeze()
    model.replace_head(4, rng=0)
    assert sum(not layer.is_frozen for _, layer in model.named_layers()) >= 1
    history = model.fit(X, [0, 1, 2, 3, 2, 1], 30, optimizer=fc.Adam(0.1))
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "m.safetensors")(X), model(X))
    model.export_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(fc.load(tmp_path / "m.onnx")(X), model(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lenet", "small_cnn", "resnet20", "squeezenet1_1", "mobilenet_v2"])
def test_a_network_in_python_gets_another_head(name):
    model = fc.zoo.build(name)
    before = dict(model.state_dict())
    model.replace_head(3, rng=0)
    assert model(np.zeros((1, *model.input_shape), np.float32)).shape == (1, 3)
    changed = {key for key, array in model.state_dict().items() if before[key] is not array}
    assert len(changed) == 2 and len({key.rpartition(".")[0] for key in changed}) == 1


def test_a_sequence_of_layers_gets_another_head():
    model = fc.Sequential(fc.Linear(4, 8), fc.Sequential(fc.ReLU(), fc.Linear(8, 5, bias=False)), fc.Softmax())
    with pytest.raises(ValueError, match="input_shape is not set"):
        model.replace_head(2)
    model.input_shape = (4,)
    assert model.replace_head(2)[1][1].bias is None and model(np.zeros((3, 4))).shape == (3, 2)
    weights = [fc.Sequential(fc.Linear(4, 3)) for _ in range(2)]
    for other in weights:
        other.input_shape = (4,)
        other.replace_head(6, rng=7)
    np.testing.assert_array_equal(weights[0][0].weight, weights[1][0].weight)


def test_networks_without_a_last_layer_are_refused():
    model = fc.Sequential(fc.Linear(4, 4), fc.Tanh())
    model.input_shape = (4,)
    with pytest.raises(ValueError, match=r"replace_head: Sequential ends in Tanh \(1\), expected a linear layer"):
        model.replace_head(2)
    shared = fc.Linear(4, 4)
    twice = fc.Sequential(shared, fc.ReLU(), shared)
    twice.input_shape = (4,)
    with pytest.raises(ValueError, match="are another layer's, too"):
        twice.replace_head(2)
    with pytest.raises(ValueError, match="replace_head: num_classes=0"):
        model.replace_head(0)


def test_layers_of_a_graph_are_edited_by_name_or_not_at_all(tmp_path):
    model = loaded(tmp_path, NETWORKS["Gemm"])
    expected = r"the network is given as a graph, .* replace_head\(num_classes\)"
    for change in (
        lambda: setattr(model, "fc", fc.Linear(8, 3)),
        lambda: setattr(model, "head", fc.Linear(8, 3)),
        lambda: setattr(model.fc, "scale", fc.layers.Parameter(np.ones(3))),
        lambda: setattr(model.fc, "inner", fc.ReLU()),
    ):
        with pytest.raises(TypeError, match=expected):
            change()
    for owner, name in ((model, "fc"), (model.fc, "weight")):
        with pytest.raises(TypeError, match="given as a graph, which needs it"):
            delattr(owner, name)
    model.fc.weight = np.zeros((10, 8))
    model.note = "mine"
    del model.note
    np.testing.assert_array_equal(model(X[:1])[0], ARRAYS["fc.bias"])


def test_layers_that_forward_does_not_use_are_told():
    class Plain(fc.Model):
        def __init__(self):
            self.fc, self.head = fc.Linear(4, 2), fc.Linear(4, 3)

        def forward(self, x):
            return self.fc(x)

    model = Plain()
    with pytest.warns(
        fc.FastcnnWarning, match=r"Plain\.forward does not use head\.weight, head\.bias: they learn nothing"
    ):
        model.fit(np.zeros((4, 4)), [0, 1, 0, 1], 1)
