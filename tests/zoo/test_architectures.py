"""Architectures against the originals: state-dict names and shapes, parameter counts, and outputs.

The expected numbers come from torchvision 0.29 (float64, `patterned` weights and `image`) and, for
EfficientNet-Lite, from the published checkpoints; none of it is needed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod, sqrt

import numpy as np
import pytest

from fastcnn import zoo
from fastcnn.model import Model


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a fingerprint of names and shapes in their order."""
    lines = "\n".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def patterned(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return weights that anyone can make again: RandomState's stream never changes."""
    noise = np.random.RandomState(0).standard_normal(1_000_003).astype(np.float32)
    state = {}
    for i, (name, shape) in enumerate(shapes.items()):
        values = np.resize(np.roll(noise, 7919 * i), shape)
        if len(shape) > 1:
            values *= sqrt(2 / prod(shape[1:]))
        elif name.endswith("running_var"):
            values = np.exp(0.2 * values)
        else:
            values = 0.1 * values
            if f"{name.removesuffix('weight')}running_var" in shapes and name.endswith("weight"):
                values += 0.7
        state[name] = values
    return state


def image(size: int, channels: int = 3) -> np.ndarray:
    """Return one image of noise."""
    return np.random.RandomState(1).standard_normal((1, channels, size, size)).astype(np.float32)


# Parameters (buffers not counted), digest of the state dict, image size, and of the outputs the mean, the
# standard deviation, the largest, and the second.
TORCHVISION: dict[str, tuple[int, str, int, list[float]]] = {
    "resnet18": (11_689_512, "f70b90acc4b42e13", 64, [0.11245958, 2.1443309, 7.8462426, -1.3076225]),
    "resnet34": (21_797_672, "1eddc54194ca6b04", 64, [-0.075237684, 6.1258763, 20.28088, -4.4110132]),
    "resnet50": (25_557_032, "fa8a2ba5a01c9375", 64, [0.11681847, 2.1297957, 6.2042405, -0.52387845]),
    "squeezenet1_1": (1_235_496, "1d365589393f9c1e", 64, [0.64177241, 0.85050246, 5.5893748, 3.7963885]),
    "mobilenet_v2": (3_504_872, "2d3450ca76d5df94", 64, [-0.0018895398, 0.24647521, 0.88123171, 0.03797499]),
    "vgg16": (138_357_544, "35c4623e0cd4a39d", 224, [0.16994415, 5.5252892, 18.392257, 2.2708224]),
}

# Digests of the state dicts in the published checkpoints.
EFFICIENTNET_LITE = {
    "efficientnet_lite0": "6621cbe167638591",
    "efficientnet_lite1": "4571e7dc74159574",
    "efficientnet_lite2": "90a5fd7a9eca30fa",
}

PARAMETERS = {
    **{name: entry[0] for name, entry in TORCHVISION.items()},
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
    model = zoo.build(name)
    assert sum(array.size for _, array in model.named_parameters()) == PARAMETERS[name]
    graph = model.graph()
    (output,) = graph.outputs
    values = graph.infer(dict.fromkeys(graph.inputs, (2, *model.input_shape)))
    assert values[output] == (2, 10 if name in ("lenet", "resnet20", "small_cnn") else 1000)


@pytest.mark.parametrize("name", TORCHVISION)
def test_agrees_with_torchvision(name):
    _, fingerprint, size, expected = TORCHVISION[name]
    model = zoo.build(name)
    shapes = shapes_of(model)
    assert digest(shapes) == fingerprint
    model.load_state_dict(patterned(shapes))
    scores = model(image(size))[0]
    outputs = [scores.mean(), scores.std(), scores.max(), scores[1]]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5 * scores.std())


@pytest.mark.parametrize("name", EFFICIENTNET_LITE)
def test_efficientnet_lite_has_the_checkpoints_names(name):
    assert digest(shapes_of(zoo.build(name))) == EFFICIENTNET_LITE[name]


@pytest.mark.parametrize("name", ["lenet", "resnet18", "squeezenet1_1", "mobilenet_v2", "efficientnet_lite0"])
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
    with pytest.raises(ValueError, match="zoo.build: name='alexnet', expected one of efficientnet_lite0, "):
        zoo.build("alexnet")
