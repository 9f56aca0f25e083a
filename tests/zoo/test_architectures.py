"""Architectures against the originals: state-dict names and shapes, parameter counts, and outputs.

originals.py has stored what torchvision's and timm's networks give; neither is needed here. The digests of
EfficientNet-Lite are those of the published checkpoints.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from zoo.originals import CLASSES, MOMENTUM, ORIGINALS, STORED, TRAINED, batches, digest, image, patterned, summary

import fastcnn as fc
from fastcnn import zoo
from fastcnn.model import Model

EXPECTED = json.loads(STORED.read_text())

# Digests of the state dicts in the published checkpoints.
EFFICIENTNET_LITE = {
    "efficientnet_lite0": "6621cbe167638591",
    "efficientnet_lite1": "4571e7dc74159574",
    "efficientnet_lite2": "90a5fd7a9eca30fa",
}

PARAMETERS = {
    **{name: entry["parameters"] for name, entry in EXPECTED.items()},
    "lenet": 61_706,
    "resnet20": 272_474,
    "small_cnn": 307_946,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
}


def shapes_of(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in model.state_dict().items()}


def test_every_architecture_is_tested():
    assert sorted(PARAMETERS) == sorted(zoo.names())


@pytest.mark.parametrize("name", zoo.names())
def test_parameters_and_shape(name):
    model = zoo.build(name, **(ORIGINALS[name].own_settings if name in ORIGINALS else {}))
    assert sum(array.size for _, array in model.named_parameters()) == PARAMETERS[name]
    graph = model.graph()
    (output,) = graph.outputs
    values = graph.infer(dict.fromkeys(graph.inputs, (2, *model.input_shape)))
    assert values[output] == (2, 10 if name in ("lenet", "resnet20", "small_cnn") else 1000)


@pytest.mark.parametrize("name", ORIGINALS)
def test_agrees_with_the_original(name):
    original, expected = ORIGINALS[name], EXPECTED[name]
    model = zoo.build(name, **original.own_settings)
    shapes = shapes_of(model)
    assert digest(shapes) == expected["digest"]
    model.load_state_dict({**model.state_dict(), **patterned(shapes)})
    scores = model(image(original.size))[0]
    np.testing.assert_allclose(summary(scores), expected["outputs"], rtol=1e-5, atol=1e-5 * scores.std())


@pytest.mark.parametrize("name", TRAINED)
def test_trains_as_the_original(name):
    """Twenty losses of training from the same weights, without dropout."""
    original = ORIGINALS[name]
    model = zoo.build(name, num_classes=CLASSES, **original.own_settings)
    model.load_state_dict(patterned(shapes_of(model)))
    for _, layer in model.named_layers():
        if isinstance(layer, (fc.Dropout, fc.DropPath)):
            layer.p = 0.0
    trainer = fc.Trainer(model, fc.SGD(TRAINED[name], momentum=MOMENTUM))
    found = [trainer.step(images, labels) for images, labels in batches(original.size)]
    np.testing.assert_allclose(found, EXPECTED[name]["losses"], rtol=0, atol=1e-4)


def test_repvgg_keeps_its_outputs_as_a_plain_network():
    model = zoo.repvgg_a0()
    model.load_state_dict(patterned(shapes_of(model)))
    before = model(image(64))
    assert model.reparameterize() is model
    assert {name.split(".")[-2] for name in shapes_of(model)} == {"reparam_conv", "fc"}
    np.testing.assert_allclose(model(image(64)), before, rtol=0, atol=1e-5 * before.std())
    state = model.reparameterize().state_dict()  # again: nothing to do
    other = zoo.repvgg_a0(rng=1).reparameterize()
    other.load_state_dict(state)
    assert np.array_equal(other(image(64)), model(image(64)))


@pytest.mark.parametrize("name", EFFICIENTNET_LITE)
def test_efficientnet_lite_has_the_checkpoints_names(name):
    assert digest(shapes_of(zoo.build(name))) == EFFICIENTNET_LITE[name]


@pytest.mark.parametrize(
    "name",
    [
        "lenet",
        "resnet18",
        "squeezenet1_1",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "efficientnet_lite0",
        "efficientnet_b0",
    ],
)
def test_settings(name):
    model = zoo.build(name, num_classes=7, in_channels=2, rng=3)
    size = 28 if name == "lenet" else 64
    assert model.input_shape[0] == 2
    assert model(image(size, channels=2)).shape == (1, 7)
    assert np.isfinite(model(image(size, channels=2))).all()
    same, other = (zoo.build(name, num_classes=7, in_channels=2, rng=seed).state_dict() for seed in (3, 4))
    assert all((same[key] == array).all() for key, array in model.state_dict().items())
    assert any((other[key] != array).any() for key, array in model.state_dict().items())


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="zoo.build: name='alexnet', expected one of convnext_atto, "):
        zoo.build("alexnet")


def test_bad_settings_are_named():
    for name in ("convnext_atto", "efficientnet_b0", "swin_t", "vit_tiny_patch16"):
        for value in ([0.1], "much", 1.5, np.zeros(2)):
            with pytest.raises((TypeError, ValueError), match="drop_path=.*, expected a number"):
                zoo.build(name, drop_path=value)
    for size, expected in (
        (100, "a multiple of 16"),
        (0, "an integer >= 16"),
        ("224", "an integer"),
        (None, "an integer"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"image_size=.*, expected {expected}"):
            zoo.vit_tiny_patch16(image_size=size)
