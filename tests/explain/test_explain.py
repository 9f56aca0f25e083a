"""Heat maps, filters, overlays and neighbours: what they show, for whom, and what they refuse."""

from __future__ import annotations

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper

import fastcnn as fc
from fastcnn import explain
from fastcnn.explain.pictures import coloured, grey, tiled
from fastcnn.explain.places import enlarged, places_of
from fastcnn.io.image import Preprocess
from fastcnn.onnx_model import load_onnx


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def corners():
    """A network that tells in which corner of 16x16 pixels the light is: it means each quarter."""
    model = fc.Sequential(fc.AvgPool2d(2), fc.Conv2d(1, 1, 1), fc.AvgPool2d(4), fc.Flatten(), fc.Linear(4, 4))
    model[1].weight, model[1].bias = np.ones((1, 1, 1, 1)), [0.0]
    model[4].weight, model[4].bias = 9 * np.eye(4), np.zeros(4)
    model.input_shape, model.classes = (1, 16, 16), ["top left", "top right", "bottom left", "bottom right"]
    return model


def light(corner):
    image = np.zeros((1, 16, 16), np.float32)
    top, left = 8 * (corner // 2), 8 * (corner % 2)
    image[0, top + 2 : top + 6, left + 2 : left + 6] = 1
    return image


@pytest.mark.parametrize("corner", range(4))
def test_heat_lies_where_the_light_is(corner):
    model, image = corners(), light(corner)
    for heat in (
        explain.grad_cam(model, image, layer="1"),
        explain.occlusion(model, image, patch=4, stride=2),
        explain.occlusion(model, image, model.classes[corner]),
    ):
        assert heat.shape == (16, 16)
        top, left = np.unravel_index(heat.argmax(), heat.shape)
        assert 2 * (top // 8) + left // 8 == corner


def test_occlusion_is_the_fall_of_the_probability():
    """Squares side by side: each pixel has what its own square changes."""
    model, image = corners(), light(3)
    heat = explain.occlusion(model, image, 3, patch=4, stride=4, batch_size=5)
    hidden = image.copy()
    hidden[:, 8:12, 8:12] = image.mean()
    fall = model.predict_proba(image[None])[0, 3] - model.predict_proba(hidden[None])[0, 3]
    assert fall > 0 and np.allclose(heat[8:12, 8:12], fall)


def test_occlusion_takes_images_with_channels_last():
    weight = random(3, 2)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], "mean", axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"], "head"),
    ]
    inputs, outputs = [build.value("x", ["N", 8, 8, 3])], [build.value("y", ["N", 2])]
    model = load_onnx(build.model(nodes, inputs, outputs, [build.tensor("w", weight)]).SerializeToString())
    image = random(8, 8, 3)
    heat = explain.occlusion(model, image, 0, patch=8)
    hidden = np.broadcast_to(image.mean((0, 1)), (1, 8, 8, 3)).astype(np.float32)
    fall = model.predict_proba(image[None])[0, 0] - model.predict_proba(hidden)[0, 0]
    np.testing.assert_allclose(heat, np.full((8, 8), fall), atol=1e-6)


def test_one_image_or_many_and_labels_of_each():
    model, images = corners(), np.stack([light(i) for i in range(4)])
    each = explain.grad_cam(model, images, range(4), layer="1")
    assert each.shape == (4, 16, 16)
    for i, name in enumerate(model.classes):
        np.testing.assert_allclose(explain.grad_cam(model, images[i], name, layer="1"), each[i], atol=1e-6)
    np.testing.assert_allclose(explain.grad_cam(model, images, layer="1"), each, atol=1e-6)  # the most probable
    assert explain.occlusion(model, images[:2], [0, 1]).shape == (2, 16, 16)


def test_what_speaks_against_a_class_is_no_heat():
    model = corners()
    model[4].weight = -9 * np.eye(4)
    assert not explain.grad_cam(model, light(0), 0, layer="1").any()
    assert explain.grad_cam(model, light(0), 0, layer="1").shape == (16, 16)


def test_endings_do_not_count():
    """The gradient is that of scores, whatever turns them into probabilities."""
    plain = corners()
    for ending in (fc.Softmax(), fc.Sigmoid()):
        ended = fc.Sequential(*[layer for _, layer in plain.named_children()], ending)
        ended.input_shape = plain.input_shape
        heat = explain.grad_cam(ended, light(1), 1, layer="1")
        np.testing.assert_allclose(heat, explain.grad_cam(plain, light(1), 1, layer="1"), atol=1e-6)


def test_one_output_says_yes_and_no():
    model = fc.Sequential(fc.Conv2d(1, 1, 1), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(1, 1), fc.Sigmoid())
    model[0].weight, model[0].bias = np.ones((1, 1, 1, 1)), [0.0]
    model[3].weight, model[3].bias = [[2.0]], [0.0]
    model.input_shape = (1, 16, 16)
    yes, no = (explain.grad_cam(model, light(0), label, layer="0") for label in (1, 0))
    assert yes.max() == 1 and not no.any()


@pytest.mark.parametrize(
    ("build_it", "layer", "grid"),
    [
        (fc.zoo.resnet20, "layer3.2.relu", (8, 8)),
        (lambda **how: fc.zoo.vit_tiny_patch16(image_size=64, **how), "blocks.11.norm1", (4, 4)),
        (fc.zoo.convnext_atto, "stages.3.blocks.1", (2, 2)),
        (fc.zoo.squeezenet1_1, "classifier.2", (3, 3)),
        (fc.zoo.swin_t, "transpose", (7, 7)),
    ],
)
def test_the_layer_that_is_taken_by_default(build_it, layer, grid):
    """The last one with places; of transformers with a class token what goes into the last attention."""
    model = build_it(rng=0)
    size = model.input_shape[1] if grid[0] in (7, 8, 4) else 64
    model.input_shape = (3, size, size)
    image = random(3, size, size)
    heat = explain.grad_cam(model, image, 1, resize=False)
    assert heat.shape == grid and heat.any()
    np.testing.assert_array_equal(heat, explain.grad_cam(model, image, 1, layer=layer, resize=False))


def test_places_of_values():
    image = (3, 30, 40)
    assert places_of((2, 8, 15, 20), image) == (15, 20, False, 0)
    assert places_of((2, 15, 20, 8), image) == (15, 20, True, 0)
    assert places_of((2, 12, 8), image) == (3, 4, True, 0)
    assert places_of((2, 13, 8), image) == (3, 4, True, 1)
    for shape in ((2, 8, 1, 1), (2, 8), (2, 8, 20, 15), (2, 11, 8), None, (2, 2, 8, 64, 64)):
        assert places_of(shape, image) is None, shape
    assert places_of((2, 8, 15, 20), (10,)) is None


def test_enlarging_keeps_what_is_even_and_the_order():
    even = np.full((2, 3, 4), 0.25, np.float32)
    np.testing.assert_allclose(enlarged(even, (10, 9)), np.full((2, 10, 9), 0.25))
    ramp = enlarged(np.arange(4, dtype=np.float32)[None], (1, 13))[0]
    assert (np.diff(ramp) >= 0).all() and ramp[0] == 0 and ramp[-1] == 3
    np.testing.assert_allclose(enlarged(random(5, 5), (5, 5)), random(5, 5), rtol=1e-6)


def test_filters_as_pictures():
    model = fc.zoo.resnet20(rng=0)
    pictures, weights = explain.filters(model), model.conv1.weight
    assert pictures.shape == (16, 3, 3, 3) and pictures.dtype == np.uint8
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    wanted = (weights / largest).transpose(0, 2, 3, 1) * 127.5 + 127.5
    np.testing.assert_allclose(pictures, wanted, atol=0.51)
    deeper = explain.filters(model, "layer1.0.conv1")
    assert deeper.shape == (16, 3, 3, 3) and (deeper == deeper[..., :1]).all()
    model.conv1.weight = np.zeros_like(weights)
    assert set(explain.filters(model).ravel()) == {128}


def test_overlay_leaves_what_is_cold():
    photo, heat = np.full((8, 8, 3), 90, np.uint8), np.zeros((2, 2))
    np.testing.assert_array_equal(explain.overlay(photo, heat), photo)
    heat[0, 0] = 5
    seen = explain.overlay(photo, heat)
    assert (seen[-1, -1] == 90).all() and not (seen[0, 0] == 90).any()
    np.testing.assert_array_equal(explain.overlay(photo, heat, 0), photo)
    assert explain.overlay(photo[..., :1], -heat).shape == (8, 8, 3)


def test_pictures_of_numbers():
    assert grey(np.float32([[3, 3]])).tolist() == [[0, 0]]
    assert grey(np.float32([[np.nan, 1]])).tolist() == [[0, 255]]
    lightness = coloured(np.linspace(0, 1, 50)) @ np.array([0.3, 0.59, 0.11])
    assert (np.diff(lightness) > 0).all()
    tiles = tiled(np.zeros((3, 2, 2), np.uint8), paper=9)
    assert tiles.shape == (5, 5) and (tiles[2] == 9).all() and (tiles[3:, 3:] == 9).all()


def test_nearest_photos(tmp_path):
    from PIL import Image

    model = fc.zoo.small_cnn(rng=0, image_size=16, num_classes=3)
    model.preprocess = Preprocess(size=16)
    rng, names = np.random.default_rng(0), []
    for i in range(12):
        names.append(str(tmp_path / f"{i:02}.png"))
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(names[-1])
    found = explain.nearest(model, names[7], tmp_path, count=3)
    assert [found[0].name, len(found)] == [names[7], 3] and found[0].similarity > 0.999
    assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)
    known = model.embed(names)
    again = explain.nearest(model, names[7], names, count=3, embeddings=known)
    assert [one.index for one in again] == [one.index for one in found]
    known[7] = np.nan  # as of a photo that cannot be read
    assert 7 not in {one.index for one in explain.nearest(model, names[7], names, count=99, embeddings=known)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: explain.grad_cam(m, x, "centre"), "label='centre', expected one of top left"),
        (lambda m, x: explain.grad_cam(m, x, 4), "label=4, expected a number from 0 to 3"),
        (lambda m, x: explain.grad_cam(m, x, [0, 1]), "2 labels, expected one, or one for each of 1"),
        (lambda m, x: explain.grad_cam(m, x, 0, layer="9"), "no layer is called '9'"),
        (lambda m, x: explain.grad_cam(m, x, 0, layer="4"), r"shape \(1, 4\), expected maps"),
        (lambda m, x: explain.occlusion(m, x, 0, patch=17), "patch=17, expected at most 16"),
        (lambda m, x: explain.occlusion(m, x, 0, patch=3, stride=4), "stride=4, expected at most 3"),
        (lambda m, x: explain.occlusion(fc.Sequential(fc.Linear(2, 2)), [[1, 2]]), "expected images"),
        (lambda m, x: explain.filters(m, "4"), "is no convolution with weights, expected one of 1"),
        (lambda m, x: explain.filters(fc.zoo.vit_tiny_patch16(image_size=32), "head"), "expected one of patch_embed"),
        (lambda m, x: explain.overlay(x, x), "expected .H, W, 3. and .h, w."),
        (lambda m, x: explain.overlay(x[0, :, :, None], x[0], 2), "opacity=2, expected a number from 0 to 1"),
        (lambda m, x: explain.nearest(m, x[None].repeat(2, 0), x[None]), "image has 2 images, expected one"),
        (lambda m, x: explain.nearest(m, x, x[None], embeddings=[[1.0]]), r"expected \(1, 4\), a row for each"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(corners(), light(0))


def test_networks_without_places_or_convolutions_are_told():
    model = fc.Sequential(fc.Flatten(), fc.Linear(256, 3))
    model.input_shape = (1, 16, 16)
    with pytest.raises(ValueError, match="no layer has places, expected convolutions or tokens; occlusion"):
        explain.grad_cam(model, light(0))
    with pytest.raises(ValueError, match="has no convolution with weights"):
        explain.filters(model)
    assert explain.occlusion(model, light(0)).shape == (16, 16)


def test_a_layer_without_a_gradient_is_named():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Round", ["a"], ["b"], "bent"),
        helper.make_node("GlobalMaxPool", ["b"], ["c"], "pool"),
        helper.make_node("Flatten", ["c"], ["y"], "flat"),
    ]
    inputs, outputs = [build.value("x", ["N", 1, 16, 16])], [build.value("y", ["N", 2])]
    tensors = [build.tensor("w", np.full((2, 1, 1, 1), 4, np.float32))]
    model = load_onnx(build.model(nodes, inputs, outputs, tensors).SerializeToString())
    assert explain.grad_cam(model, light(0), 0, layer="bent").any()  # behind it all have one
    with pytest.raises(ValueError, match=r"grad_cam: node 'bent' .*Round. has no gradient.*choose a layer behind it"):
        explain.grad_cam(model, light(0), 0, layer="conv")
