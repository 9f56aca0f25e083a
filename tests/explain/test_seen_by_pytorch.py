"""Maps, embeddings and Grad-CAM are those that PyTorch's hooks see, in networks from Python and from ONNX."""

from __future__ import annotations

import numpy as np
import onnx_builders as build
import pytest
from explain import seen_by_pytorch as seen
from onnx import helper
from training import network_of_pytorch

import fastcnn as fc
from fastcnn import explain
from fastcnn import functional as F
from fastcnn.onnx_model import load_onnx

EXPECTED = seen.expected()


class Block(fc.Model):
    def __init__(self):
        self.conv = fc.Conv2d(seen.CHANNELS, seen.CHANNELS, 3, padding=1, bias=False)
        self.norm, self.relu = fc.BatchNorm2d(seen.CHANNELS), fc.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(self.relu(x))) + x)


class Written(fc.Model):
    def __init__(self):
        self.stem, self.block = fc.Conv2d(3, seen.CHANNELS, 3, padding=1), Block()
        self.pool, self.relu, self.head = fc.MaxPool2d(2), fc.ReLU(), fc.Linear(seen.CHANNELS, seen.CLASSES)

    def forward(self, x):
        x = self.relu(self.pool(self.block(self.stem(x))))
        return self.head(F.flatten(F.global_avg_pool2d(x)))


def with_islands():
    """An ONNX network with activations that NumPy computes within the plan."""
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight", "stem.bias"], ["a"], "stem", pads=[1] * 4),
        helper.make_node("Elu", ["a"], ["b"], "bend", alpha=0.7),
        helper.make_node("Conv", ["b", "deep.weight", "deep.bias"], ["c"], "deep", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Softplus", ["c"], ["d"], "soft"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "mean"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["y"], "head", transB=1),
    ]
    tensors = [build.tensor(name, array) for name, array in seen.weights("islands").items()]
    shape = ["N", 3, seen.SIZE, seen.SIZE]
    made = build.model(nodes, [build.value("x", shape)], [build.value("y", ["N", seen.CLASSES])], tensors)
    return load_onnx(made.SerializeToString())


def network(name):
    if name == "exported":
        return fc.load(network_of_pytorch.NETWORK), seen.images(size=network_of_pytorch.SIZE)
    if name == "islands":
        return with_islands(), seen.images()
    model = Written()
    model.load_state_dict(seen.weights(name))
    model.input_shape = (3, seen.SIZE, seen.SIZE)
    return model, seen.images()


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("name", EXPECTED)
def test_maps_of_named_layers(name):
    (model, images), names = network(name), seen.LOOKED_AT[name]
    maps = model.feature_maps(images, list(names.values()))
    assert list(maps) == list(names.values())
    for theirs, ours in names.items():
        close(maps[ours].ravel()[:: seen.EVERY], EXPECTED[name]["maps"][theirs])


@pytest.mark.parametrize("name", EXPECTED)
def test_embeddings(name):
    model, images = network(name)
    close(model.embed(images), EXPECTED[name]["embedding"])


@pytest.mark.parametrize("name", EXPECTED)
def test_grad_cam(name):
    (model, images), layer = network(name), seen.LOOKED_AT[name][seen.CAM[name]]
    close(explain.grad_cam(model, images, seen.LABELS, layer=layer, resize=False), EXPECTED[name]["cam"])
    close(explain.grad_cam(model, images, seen.LABELS, layer=layer), EXPECTED[name]["large"])
    assert EXPECTED[name]["cam"].std() > 0.1  # a map of zeros would equal itself


def test_the_networks_are_what_they_are_called():
    model, _ = network("islands")
    assert {row.kernel for row in model.summary().rows} >= {"numpy"}


def test_layers_are_listed_by_the_names_that_feature_maps_takes():
    for name in EXPECTED:
        model, images = network(name)
        listed = [layer.name for layer in explain.layers(model)]
        maps = model.feature_maps(images[:1], listed)
        assert [maps[layer.name].shape for layer in explain.layers(model)] == [
            layer.shape for layer in explain.layers(model)
        ]
