"""Quantised networks that learn on: float weights beside the integers, and gradients that pass rounding."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from striped_images import network, stripes

import fastcnn as fc
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.network import compile_network
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.fake_quantize import MAGIC

RNG = np.random.default_rng(4)


def learned():
    model, (x, y) = network(), stripes()
    model.fit(x, y, epochs=6, optimizer=fc.Adam(0.01), progress=False)
    model.input_shape = (1, 8, 8)
    return model, x, y


def digits():
    """Digits of 8 x 8 pixels, and a network that has learned most of them."""
    data = load_digits()
    x, y = (data.images[:, None] / 16).astype(np.float32), data.target
    with fc.layers.seeded(0):
        model = fc.Sequential(
            *(fc.Conv2d(1, 16, 3, padding=1), fc.ReLU(), fc.Conv2d(16, 16, 3, padding=1), fc.ReLU()),
            *(fc.MaxPool2d(2), fc.Flatten(), fc.Linear(256, 10)),
        )
    model.fit(x[:1200], y[:1200], epochs=10, optimizer=fc.Adam(0.003), progress=False)
    return model, (x[:1200], y[:1200]), (x[1200:], y[1200:])


def step(x, scale, **attrs):
    """What FakeQuantize computes, and its gradient times 1, 2, 3, …"""
    inputs = {"x": x.shape, "target": (len(x), x[0].size)}
    nodes = [
        Node("FakeQuantize", "f", ("x", "scale", "magic"), "y", attrs),
        Node("Flatten", "rows", ("y",), "rows", {"axis": 1}),
        Node("LinearLoss", "loss", ("rows", "target"), "l", {}),
    ]
    graph = Graph(nodes, inputs, ["l", "y"], {"scale": scale, "magic": np.asarray(MAGIC)})
    graph, grads, shapes = differentiate(graph, inputs, "l", {"x"})
    graph.outputs[:] = ["y", grads["x"]]
    plan = compile_graph(graph, shapes)
    weights = np.arange(1, x.size + 1, dtype=np.float32).reshape(inputs["target"])
    return plan.run([x, weights])


@pytest.mark.parametrize("shape", [(3, 17), (2, 5, 6, 7)])
def test_values_are_rounded_half_to_even_and_gradients_pass_within_the_range(isa, shape):
    scale = np.asarray(np.float32(0.25))
    x = (RNG.integers(-30, 30, shape) * 0.125).astype(np.float32)  # half of them between two steps
    y, gradient = step(x, scale, low=-8, high=7)
    np.testing.assert_array_equal(y, np.clip(np.rint(x / 0.25), -8, 7) * 0.25)
    inside = (x / 0.25 > -8.49) & (x / 0.25 < 7.49)
    assert 0 < inside.mean() < 1
    np.testing.assert_allclose(gradient != 0, inside)


def test_weights_have_a_scale_for_each_output(isa):
    x = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
    scale = np.float32([0.01, 0.1, 0.02, 0.5]).reshape(4, 1, 1, 1)
    y, _ = step(x, scale, low=-128, high=127)
    np.testing.assert_allclose(y, np.clip(np.rint(x / scale), -128, 127) * scale, rtol=1e-6)


def test_a_network_computes_the_same_in_training():
    model, x, _ = learned()
    small = model.quantize(x)
    before = small(x)
    small._begin_training()
    np.testing.assert_array_equal(small(x), before)  # float weights are on integers
    graph = small._training_graph((1, 8, 8))
    found = compile_network(graph, dict.fromkeys(graph.inputs, x.shape)).plan.run([x])[0]
    np.testing.assert_allclose(found, before, atol=1e-6)


def test_learning_recovers_what_coarse_steps_have_lost():
    """One bright pixel of the calibration images makes steps coarse, from the input on."""
    model, (x, y), test = digits()
    far = x[:1].copy()
    far[0, 0, 0, 0] = 400
    small = model.quantize(np.concatenate([x, far]), samples=len(x) + 1, validation=test)
    lost = small.quantization.accuracy
    assert lost < small.quantization.float_accuracy - 0.08
    small.fit(x, y, epochs=8, optimizer=fc.Adam(0.002), progress=False)
    assert small.evaluate(*test).accuracy > lost + 0.03


def test_digits_lose_at_most_half_a_point():
    model, (x, _), test = digits()
    report = model.quantize(x, validation=test).quantization
    assert report.drop <= 0.5 and report.agreement > 0.98


def test_what_was_learned_is_in_files_as_integers(tmp_path):
    model, x, y = learned()
    small = model.quantize(x)
    before = {name: array.copy() for name, array in small.graph().constants.items()}
    history = small.fit(x, y, epochs=3, optimizer=fc.Adam(0.01), progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert {"0.weight", "0.bias", "5.weight"} <= {name for name, _ in small.named_parameters()}
    small.save(tmp_path / "small.safetensors")
    read = fc.load(tmp_path / "small.safetensors")
    np.testing.assert_array_equal(read(x), small(x))
    constants = read.graph().constants
    assert constants["0.weight"].dtype == np.int8 and constants["0.bias"].dtype == np.int32
    assert (constants["0.weight"] != before["0.weight"]).any()
    assert all(np.array_equal(constants[name], before[name]) for name in before if name.endswith("scale"))
    for clone in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):
        np.testing.assert_array_equal(clone(x), small(x))


def test_a_trainer_and_checkpoints_know_quantised_networks(tmp_path):
    model, x, y = learned()
    first, second = model.quantize(x), model.quantize(x)
    trainer = fc.Trainer(first, fc.SGD(0.05))
    losses = [trainer.step(x, y) for _ in range(5)]
    assert losses[-1] < losses[0]
    settings = {"optimizer": fc.SGD(0.05), "progress": False, "checkpoint": tmp_path / "run", "resume": True}
    second.fit(x, y, epochs=1, **settings)
    resumed = model.quantize(x)
    resumed.fit(x, y, epochs=2, **settings)
    plain = model.quantize(x)
    plain.fit(x, y, epochs=2, optimizer=fc.SGD(0.05), progress=False)
    np.testing.assert_array_equal(resumed(x), plain(x))


def test_frozen_layers_keep_their_integers():
    model, x, y = learned()
    small = model.quantize(x)
    dict(small.named_layers())["0"].freeze()
    before = small.graph().constants["0.weight"].copy()
    small.fit(x, y, epochs=2, optimizer=fc.Adam(0.01), progress=False)
    np.testing.assert_array_equal(small.graph().constants["0.weight"], before)
    assert small.graph().constants["5.weight"].dtype == np.int8
