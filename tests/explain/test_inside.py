"""`Model.feature_maps` and `Model.embed`: every layer of every kind of network, all forms of images, and names."""

from __future__ import annotations

import pickle

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper

import fastcnn as fc
from fastcnn import explain
from fastcnn.inside import MAX_VIEWS, _caches, named_nodes
from fastcnn.io.image import Preprocess
from fastcnn.onnx_model import load_onnx


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


NETWORKS = {
    "lenet": lambda: fc.zoo.lenet(rng=0),
    "small_cnn": lambda: fc.zoo.small_cnn(rng=0, image_size=16, num_classes=3),
    "resnet20": lambda: fc.zoo.resnet20(rng=0),
    "mobilenet_v3_small": lambda: fc.zoo.mobilenet_v3_small(rng=0),
    "vit_tiny_patch16": lambda: fc.zoo.vit_tiny_patch16(rng=0, image_size=32),
    "convnext_atto": lambda: fc.zoo.convnext_atto(rng=0),
    "onnx": lambda: load_onnx(build.classifier().SerializeToString()),
}


def made(name):
    model = NETWORKS[name]()
    channels, *size = model.input_shape or (3, 12, 12)
    if size[0] == 224:  # the network takes every size
        model.input_shape = (channels, *(size := [64, 64]))
    return model, random(2, channels, *size)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_what_the_definitions_compute(name):
    """Each value against the float64 definition of its operation, one after the other."""
    model, x = made(name)
    graph = model._kernel_graph(x.shape[1:])
    maps = model.feature_maps(x, list(named_nodes(graph)))
    values = {next(iter(graph.inputs)): x, "": None, **graph.constants}
    for label, node in named_nodes(graph).items():
        operands = [None if name == "" else values[name].astype(np.float64) for name in node.inputs]
        wanted = np.asarray(node.kind.reference(node.attrs, operands))
        values[node.output] = maps[label]
        assert maps[label].shape == wanted.shape, label
        np.testing.assert_allclose(maps[label], wanted, rtol=2e-4, atol=2e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_without_names_all_layers_with_places_are_there(name):
    model, x = made(name)
    maps = model.feature_maps(x)
    listed = {layer.name: layer.shape for layer in explain.layers(model, x.shape[1:])}
    assert maps and all(array.shape == (2, *listed[name][1:]) and array.ndim >= 3 for name, array in maps.items())


def test_embeddings_times_the_last_layer_are_the_scores():
    for name, last in (("resnet20", "fc"), ("mobilenet_v3_small", "classifier.3"), ("vit_tiny_patch16", "head")):
        model, x = made(name)
        layer = dict(model.named_layers())[last]
        np.testing.assert_allclose(model.embed(x) @ layer.weight.T + layer.bias, model(x), rtol=1e-3, atol=1e-4)


def test_an_embedding_before_a_convolution_is_the_mean_over_places():
    model = fc.Sequential(fc.Conv2d(3, 5, 3), fc.ReLU(), fc.Conv2d(5, 2, 1), fc.GlobalAvgPool2d(), fc.Flatten())
    x = random(3, 3, 8, 8)
    maps = model.feature_maps(x, "1")["1"]
    np.testing.assert_allclose(model.embed(x), maps.mean((2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(model.embed(x, layer="1", batch_size=2), model.embed(x, layer="1"))


def test_tokens_are_averaged_over_their_places():
    model, x = made("vit_tiny_patch16")
    tokens = model.feature_maps(x, "blocks.3.norm1")["blocks.3.norm1"]
    np.testing.assert_allclose(model.embed(x, layer="blocks.3.norm1"), tokens.mean(1), rtol=1e-4, atol=1e-6)


def test_paths_stand_for_the_last_call_and_values_for_each():
    model, x = made("resnet20")
    names = ["layer1.0", "layer1.0:0", "layer1.0.relu", "layer1.0.relu:0", "layer1"]
    maps = model.feature_maps(x, names)
    block, sum_before, relu, first, _ = (maps[name] for name in names)
    np.testing.assert_array_equal(block, np.maximum(sum_before, 0))
    np.testing.assert_array_equal(block, relu)
    assert not np.array_equal(first, relu)
    assert model.feature_maps(x, "layer1").keys() == {"layer1"}


def test_a_saved_model_has_the_same_names(tmp_path):
    model, x = made("resnet20")
    for suffix in ("safetensors", "onnx"):
        model.save(tmp_path / f"it.{suffix}")
        again = fc.load(tmp_path / f"it.{suffix}")
        for name in ("layer1.0", "layer2", "conv1"):
            np.testing.assert_array_equal(
                again.feature_maps(x, name)[name], model.feature_maps(x, name)[name], err_msg=suffix
            )


def test_new_weights_are_seen_and_training_goes_on_beside():
    model, x = made("lenet")
    before = model.embed(x), model.feature_maps(x, "conv1")["conv1"]
    model.fit(x, [0, 1], epochs=1, batch_size=2)
    after = model.embed(x), model.feature_maps(x, "conv1")["conv1"]
    assert not np.array_equal(before[0], after[0]) and not np.array_equal(before[1], after[1])
    model.conv1.bias = np.full(6, 7.0)
    assert not np.array_equal(model.feature_maps(x, "conv1")["conv1"], after[1])


def test_plans_are_kept_for_a_few_views_and_go_with_the_model():
    model, x = made("lenet")
    for layer in ("conv1", "conv2", "pool1", "pool2", "fc1", "fc2", "fc3")[:7]:
        model.feature_maps(x, layer)
    assert len(_caches[model]) == MAX_VIEWS
    cache = next(reversed(_caches[model].values()))
    model.feature_maps(x, "fc3")
    assert next(reversed(_caches[model].values())) is cache
    assert pickle.loads(pickle.dumps(model)) not in _caches
    count = len(_caches)
    del model
    assert len(_caches) == count - 1


def test_photos_in_all_forms(tmp_path):
    from PIL import Image

    model = fc.zoo.small_cnn(rng=0, image_size=16, num_classes=3)
    model.preprocess = Preprocess(size=16)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path, photo in zip(paths, pixels, strict=True):
        Image.fromarray(photo).save(path)
    batch = np.concatenate([model.preprocess(path) for path in paths])
    name, *_ = model.feature_maps(batch)
    wanted = model.feature_maps(batch, name)[name]
    content = (tmp_path / "0.png").read_bytes()
    for photo in (paths[0], content, pixels[0], Image.open(paths[0])):
        np.testing.assert_array_equal(model.feature_maps(photo, name)[name], wanted[:1])
    np.testing.assert_array_equal(model.feature_maps(paths, name)[name], wanted)
    np.testing.assert_array_equal(model.feature_maps(batch[1], name)[name], wanted[1:])
    np.testing.assert_allclose(model.embed(str(tmp_path)), model.embed(batch), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.embed(paths), model.embed(batch), rtol=1e-4, atol=1e-5)
    (tmp_path / "1.png").write_bytes(b"no photo")
    for i in range(2, 12):  # one of many may be left out
        Image.fromarray(pixels[0]).save(tmp_path / f"{i:02}.png")
    with pytest.warns(fc.FastcnnWarning):
        rows = model.embed(str(tmp_path))
    assert np.isnan(rows).all(1).sum() == 1 and len(rows) == 12


def test_networks_whose_shapes_depend_on_values_are_looked_into():
    """No single plan holds them; their layers are there all the same."""
    weight = random(4, 3)
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], "places"),
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w"], ["y"], "head", transB=1),
        helper.make_node("Shape", ["places"], ["s"], "shape"),
        helper.make_node("Cast", ["s"], ["f"], "cast", to=1),
        helper.make_node("ReduceSum", ["f"], ["n"], "sum", keepdims=0),
        helper.make_node("Mul", ["y", "n"], ["z"], "scaled"),
    ]
    network = load_onnx(
        build.model(
            nodes, [build.value("x", ["N", 3])], [build.value("z", ["N", 4])], [build.tensor("w", weight)]
        ).SerializeToString()
    )
    x = random(2, 3)
    maps = network.feature_maps(x, ["relu", "places", "head"])
    np.testing.assert_array_equal(maps["relu"], np.maximum(x, 0))
    np.testing.assert_array_equal(maps["places"], np.nonzero(x))
    np.testing.assert_allclose(maps["head"], np.maximum(x, 0) @ weight.T, rtol=1e-5)
    np.testing.assert_allclose(network.embed(x, layer="relu"), np.maximum(x, 0))


def test_no_image_gives_no_row():
    model, x = made("lenet")
    assert model.embed(x[:0]).shape == (0, 84)
    with pytest.raises(ValueError, match="at least one image"):
        model.feature_maps(x[:0])


@pytest.mark.parametrize(
    ("layers", "message"),
    [("conv", "no layer is called 'conv', did you mean conv2"), ([], "expected names"), ([3], "expected names")],
)
def test_wrong_names(layers, message):
    model, x = made("lenet")
    with pytest.raises((ValueError, TypeError), match=message):
        model.feature_maps(x, layers)


def test_networks_without_what_is_asked_for():
    numbers = fc.Sequential(fc.ReLU())
    with pytest.raises(ValueError, match="ends in nothing|expected a linear layer"):
        numbers.embed(random(2, 3))
    with pytest.raises(ValueError, match="no layer computes values at places"):
        numbers.feature_maps(random(2, 3))
