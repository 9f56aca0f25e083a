"""Networks in 8 bits: what they compute, what files hold, and what the report tells."""

from __future__ import annotations

import numpy as np
import pytest
from striped_images import network, stripes

import fastcnn as fc
from fastcnn import zoo
from fastcnn.quantization.insert import quantized_weight

RNG = np.random.default_rng(8)


def sizes_of(path):
    return path.stat().st_size


def ops_of(model):
    return [node.op.rpartition(":")[2] for node in model.graph().nodes]


def residual(channels=8):
    """A block with a sum, a concatenation, both kinds of pools, and a gate."""

    class Block(fc.Model):
        def __init__(self):
            self.stem = fc.Conv2d(3, channels, 3, padding=1, rng=1)
            self.norm = fc.BatchNorm2d(channels)
            self.left, self.right = (fc.Conv2d(channels, channels, 3, padding=1, rng=seed) for seed in (2, 3))
            self.gate = fc.Conv2d(channels, channels, 1, rng=4)
            self.head = fc.Linear(2 * channels, 5, rng=5)
            self.input_shape = (3, 12, 12)

        def forward(self, x):
            f = fc.functional
            x = f.relu(self.norm(self.stem(x)))
            x = f.relu(x + self.left(f.hardswish(self.right(x))))
            x = f.max_pool2d(x, 2)
            x = x * f.sigmoid(self.gate(f.global_avg_pool2d(x)))
            return self.head(f.flatten(f.global_avg_pool2d(f.concat([x, f.relu(x)], 1))))

    model = Block()
    model.norm.running_mean, model.norm.running_var = RNG.standard_normal(channels), RNG.uniform(0.5, 2, channels)
    return model


def test_weights_are_int8_with_a_scale_for_each_output():
    weight = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32) * np.float32([1, 10, 0.01, 0]).reshape(4, 1, 1, 1)
    whole, scale = quantized_weight(weight, None, 1.0)
    assert whole.dtype == np.int8 and np.abs(whole[:3]).max((1, 2, 3)).tolist() == [127] * 3
    assert (np.abs(whole * scale.reshape(4, 1, 1, 1) - weight) <= 0.5001 * scale.reshape(4, 1, 1, 1)).all()
    _, wide = quantized_weight(weight, np.float32([0, 0, 0, 1e6]), 1e-6)
    assert (wide[:3] == scale[:3]).all() and 1e6 / (1e-6 * wide[3]) < 2**31  # the bias fits into int32


def test_a_quantised_network_computes_almost_the_same():
    model, x = residual(), RNG.standard_normal((24, 3, 12, 12)).astype(np.float32)
    small = model.quantize(x)
    exact, found = model(x), small(x)
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    assert (found.argmax(1) == exact.argmax(1)).mean() == small.quantization.agreement > 0.9
    assert "BatchNormalization" not in ops_of(small) and {"QuantizeLinear", "DequantizeLinear"} <= {*ops_of(small)}
    assert not small.graph().outputs[0].endswith("dequantized")  # the output stays float32


def test_a_fused_relu_is_quantised_once_and_moved_values_share_a_scale():
    small = residual().quantize(RNG.standard_normal((8, 3, 12, 12)))
    graph = small.graph()
    makers = {node.output: node for node in graph.nodes}
    quantised = {node.inputs[0]: node.inputs[1:] for node in graph.nodes if node.op.endswith("::QuantizeLinear")}
    sources = {makers[name].op for name in quantised if name in makers}
    assert "BatchNormalization" not in sources
    relus = [node for node in graph.nodes if node.op == "Relu"]
    assert makers[relus[0].inputs[0]].op == "Conv" and makers[relus[1].inputs[0]].op == "Add"
    pool = next(node for node in graph.nodes if node.op == "MaxPool")
    joined = next(node for node in graph.nodes if node.op == "Concat")
    assert quantised[pool.output] == quantised[relus[1].output]
    parts = [makers[makers[name].inputs[0]].inputs[0] for name in joined.inputs]
    assert len({quantised[name] for name in (*parts, joined.output)}) == 1


def test_files_hold_integers_and_give_the_same_bits(tmp_path):
    model, x = residual(64), RNG.standard_normal((4, 3, 12, 12)).astype(np.float32)
    small = model.quantize(x)
    model.save(tmp_path / "float.safetensors")
    small.save(tmp_path / "small.safetensors")
    read = fc.load(tmp_path / "small.safetensors")
    np.testing.assert_array_equal(read(x), small(x))
    integers = {name: array for name, array in read.graph().constants.items() if array.dtype == np.int8}
    assert sorted(integers) == [f"{name}.weight" for name in ("gate", "head", "left", "right", "stem")]
    assert sizes_of(tmp_path / "small.safetensors") < 0.4 * sizes_of(tmp_path / "float.safetensors")


def test_the_model_around_stays():
    model = network()
    x, _ = stripes()
    model.classes, model.task, model.input_shape = ["row", "column"], "single_label", (1, 8, 8)
    small = model.quantize(x)
    assert (small.classes, small.task, small.input_shape) == (model.classes, model.task, model.input_shape)
    assert small.predict(x[:3]).tolist() == model.predict(x[:3]).tolist()


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_all_methods_keep_what_a_network_has_learned(method):
    model, (x, y) = network(), stripes()
    model.fit(x, y, epochs=6, optimizer=fc.Adam(0.01), progress=False)
    small = model.quantize(x, method=method, validation=(x, y))
    report = small.quantization
    assert report.method == method and report.float_accuracy == model.evaluate(x, y).accuracy > 0.9
    assert report.accuracy >= report.float_accuracy - 0.05 and report.drop <= 5


def test_calibration_is_whatever_predict_takes(tmp_path):
    model, (x, y) = network(), stripes()
    expected = model.quantize(x, samples=120)(x)
    batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 120, 50)]
    for given in (x.astype(np.float64), [*batches], (batch for batch in batches)):
        np.testing.assert_array_equal(model.quantize(given, samples=120)(x), expected)
    assert model.quantize(x, samples=10).quantization.samples == 10


def test_the_report_tells_of_each_layer():
    small = residual().quantize(RNG.standard_normal((8, 3, 12, 12)), skip="left")
    report = small.quantization
    rows = {layer.name: layer for layer in report.layers}
    assert rows["stem"].op == "Conv+Relu" and rows["stem"].low == 0 and rows["stem"].clipped == 0
    assert rows["left"].type == "float32" and rows["right"].type == "int8"
    assert all(10 < layer.signal_to_noise <= 200 for layer in report.layers)
    told = report.to_dict()
    assert told["layers"][0]["name"] == "stem" and told["drop"] == report.drop
    text = str(report)
    assert "signal/noise" in text and f"{len(rows) - 1} of {len(rows)} layers in 8 bits" in text
    assert len(report.plot().axes) == 2


def test_max_drop_puts_layers_back_until_it_holds():
    model, (x, y) = network(), stripes()
    model.fit(x, y, epochs=6, optimizer=fc.Adam(0.01), progress=False)
    factors = np.geomspace(1e-3, 1e3, 8)  # channels of far apart ranges
    model[0].weight, model[0].bias = model[0].weight * factors[:, None, None, None], model[0].bias * factors
    model[5].weight = (model[5].weight.reshape(2, 8, 9) / factors[None, :, None]).reshape(2, 72)
    coarse = model.quantize(x, equalize=False, validation=(x, y)).quantization
    assert coarse.drop > 5
    small = model.quantize(x, equalize=False, validation=(x, y), max_drop=0.5)
    report = small.quantization
    assert report.drop <= 0.5 and 0 < len(report.float_layers) <= 2
    types = {layer.name: layer.type for layer in report.layers}
    assert all(types[name] == "float32" for name in report.float_layers)
    assert small.evaluate(x, y).accuracy == report.accuracy


def depthwise(spread):
    with fc.layers.seeded(3):
        model = fc.Sequential(
            fc.Conv2d(1, 8, 3, padding=1), fc.ReLU(), fc.Conv2d(8, 8, 3, groups=8), fc.ReLU(), fc.Conv2d(8, 4, 1)
        )
    factors = np.geomspace(1, spread, 8)
    model[0].weight = model[0].weight * factors[:, None, None, None]
    model[0].bias = model[0].bias * factors
    model[2].weight = model[2].weight / factors[:, None, None, None]
    model.input_shape = (1, 10, 10)
    return model


def test_equalising_helps_depthwise_layers_and_changes_nothing_in_float32():
    model, x = depthwise(200.0), RNG.standard_normal((16, 1, 10, 10)).astype(np.float32)
    plain, equal = (model.quantize(x, equalize=flag).quantization for flag in (False, True))
    assert equal.signal_to_noise > plain.signal_to_noise + 6


def test_biases_make_up_for_rounded_weights():
    with fc.layers.seeded(1):
        model = fc.Sequential(fc.Conv2d(8, 16, 3, padding=1))
    weight = np.array(model[0].weight)
    weight[:, 0, 0, 0] = 100 * np.abs(weight).max()  # one large weight makes the steps of all others coarse
    model[0].weight, model.input_shape = weight, (8, 9, 9)
    x = RNG.random((16, 8, 9, 9)).astype(np.float32) + 1
    errors = []
    for flag in (False, True):
        difference = model.quantize(x, correct_bias=flag)(x) - model(x)
        errors.append(np.abs(difference[:, :, 1:-1, 1:-1].mean((0, 2, 3))).mean())
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "max"}, "method='max', expected one of minmax"),
        ({"percentile": 20}, "percentile=20, expected a number above 50"),
        ({"samples": 0}, "samples"),
        ({"skip": "conv9"}, "skip='conv9', expected one of"),
        ({"max_drop": -1}, "max_drop=-1, expected points"),
        ({"skip": [3]}, "skip="),
    ],
)
def test_settings_that_are_wrong_are_named(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        network().quantize(stripes()[0], **settings)


def test_networks_without_weights_or_with_integers_are_refused():
    x = np.zeros((2, 1, 8, 8), np.float32)
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        fc.Sequential(fc.ReLU()).quantize(x)
    with pytest.raises(ValueError, match="quantised already"):
        network().quantize(x).quantize(x)
    with pytest.raises(ValueError, match="no inputs"):
        network().quantize(np.zeros((0, 1, 8, 8)))
    with pytest.raises(ValueError, match="not finite"):
        network().quantize(np.full((2, 1, 8, 8), np.nan))


@pytest.mark.parametrize("name", ["lenet", "small_cnn", "mobilenet_v3_small"])
def test_networks_of_the_zoo(name):
    model = zoo.build(name, rng=0)
    x = RNG.random((2, *model.input_shape), np.float32)
    small = model.quantize(x, samples=2)
    assert small.quantization.signal_to_noise > 15
    assert all(layer.type == "int8" for layer in small.quantization.layers)
