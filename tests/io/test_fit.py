"""How photos come to the size of an input: all of them in a letterbox, stretched, or grey."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from photos import noise
from PIL import Image

import fastcnn as fc
from fastcnn.io.image import Preprocess, images_to_batch
from fastcnn.training.augment import Augment
from fastcnn.training.folders import PhotoSource

PLAIN = {"interpolation": "bilinear", "mean": (0,) * 3, "std": (1,) * 3}


@pytest.mark.parametrize(
    ("shape", "inner", "corner"),
    [
        ((40, 80), (16, 32), (8, 0)),
        ((80, 40), (32, 16), (0, 8)),
        ((32, 32), (32, 32), (0, 0)),
        ((10, 5), (32, 16), (0, 8)),
    ]
    + [((1, 500), (1, 32), (15, 0)), ((33, 64), (16, 32), (8, 0))],
)
def test_a_letterbox_holds_all_of_a_photo(shape, inner, corner):
    pixels = noise(*shape, 3)
    settings = Preprocess(32, mean=(100.4, 300, -9), std=(1,) * 3, interpolation="bilinear", resize="letterbox")
    expected = np.empty((32, 32, 3), np.uint8)
    expected[...] = (100, 255, 0)  # the mean, as a colour
    photo = np.asarray(Image.fromarray(pixels).resize(inner[::-1], Image.Resampling.BILINEAR))
    expected[corner[0] : corner[0] + inner[0], corner[1] : corner[1] + inner[1]] = photo
    np.testing.assert_array_equal(settings.pixels(pixels), expected)
    np.testing.assert_array_equal(
        settings(pixels)[0], settings.normalise(expected.transpose(2, 0, 1).astype(np.float32))
    )


def test_the_padding_is_zero_to_the_network_or_a_colour_by_name():
    pixels = np.full((8, 16, 3), 200, np.uint8)
    assert not Preprocess(16, resize="letterbox")(pixels)[0, :, 0].any()
    settings = Preprocess(16, resize="letterbox", padding=(1, 2, 3))
    assert settings.pixels(pixels)[0, 0].tolist() == [1, 2, 3] and settings.pixels(pixels)[8, 8].tolist() == [200] * 3
    assert Preprocess(16, resize="letterbox", padding=114).pixels(pixels)[15, 3].tolist() == [114] * 3
    for wrong in (256, -1, 1.5, "red", (1, 2), (1, 2, 256), []):
        with pytest.raises((TypeError, ValueError), match="Preprocess: padding"):
            Preprocess(16, resize="letterbox", padding=wrong)


def test_stretched_photos_keep_all_and_lose_their_proportions():
    pixels = noise(20, 70, 3)
    expected = Image.fromarray(pixels).resize((30, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(Preprocess((24, 30), resize="stretch").pixels(pixels), expected)


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_grey_is_pillows(resize):
    pixels = noise(50, 70, 3)
    settings = Preprocess((24, 30), mean=(9,), std=(4,), resize=resize)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    exact = (pixels.astype(np.int64) @ [19595, 38470, 7471] + 0x8000) >> 16  # 0.299, 0.587, 0.114 of ITU-R BT.601
    expected = settings.pixels(exact.astype(np.uint8))
    for photo in (pixels, file.getvalue(), Image.fromarray(pixels)):
        np.testing.assert_array_equal(settings.pixels(photo), expected)
    assert expected.shape == (24, 30, 1) and settings(pixels).shape == images_to_batch([pixels], settings).shape
    np.testing.assert_array_equal(settings(pixels)[0, 0], (expected[..., 0].astype(np.float32) - 9) / 4)
    assert settings.levels().shape == (1, 256) and settings.channels == 1


def test_a_grey_photo_keeps_its_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(Preprocess(16, 1.0, mean=(0,), std=(1,)).pixels(levels)[..., 0], levels)


def test_as_many_means_as_deviations():
    with pytest.raises(ValueError, match=r"Preprocess: mean=\(1,\), std=.*expected as many numbers in each"):
        Preprocess(8, mean=(1,))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_an_augmentation_that_changes_nothing_changes_nothing(resize, channels):
    """Photos are cropped once, and in training they look as they do in use."""
    settings = Preprocess((16, 24), 0.8, "bilinear", (0,) * channels, (1,) * channels, resize)
    photos = [noise(60, 50, 3), noise(20, 90, 3)]
    source, rng = PhotoSource(photos, settings), np.random.default_rng(0)
    for i in range(2):
        same = source.load(i, Augment(flip=False, crop=1, rotation=0, colour=0), rng)
        np.testing.assert_array_equal(same, source.load(i, None, None))


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (600, 200), (7, 9)])
def test_parts_are_those_of_the_padded_photo(shape):
    """A part as large as all of it is the letterbox, to within resizing twice."""
    settings = Preprocess((32, 48), resize="letterbox", padding=0, **PLAIN)
    pixels = np.full((*shape, 3), 200, np.uint8)
    canvas = settings.reduced(pixels, 0.25)
    height, width = canvas.shape[:2]
    assert abs(height / width - 32 / 48) < 0.1 and height <= 64 + 1
    if max(shape) < 32:
        assert max(height / shape[0], width / shape[1]) < 3  # a small photo is not enlarged
    again = settings.resized(canvas, (0, 0, height, width))
    expected = settings.resized(pixels)
    assert np.abs(again - expected).mean() < 12


def test_it_travels_in_files(tmp_path):
    model = fc.Sequential(
        fc.Conv2d(1, 2, 3, padding=1, rng=0), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(2, 2, rng=0)
    )
    model.input_shape = (1, 16, 16)
    model.preprocess = Preprocess(16, mean=(9,), std=(3,), resize="letterbox", padding=7)
    photo = noise(20, 60, 3)
    for suffix in ("safetensors", "onnx"):
        model.save(tmp_path / f"m.{suffix}")
        again = fc.load(tmp_path / f"m.{suffix}")
        assert again.preprocess == model.preprocess
        assert again.classify(photo)[0].probability == pytest.approx(model.classify(photo)[0].probability, rel=1e-5)
    settings = dataclasses.replace(model.preprocess, resize="crop", padding=None).to_dict()
    older = {name: value for name, value in settings.items() if name not in ("resize", "padding")}
    assert Preprocess.from_dict(older) == Preprocess.from_dict(settings)
