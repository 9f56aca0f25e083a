"""Photos decoded no larger than needed, and kept: how little differs, and that each is decoded once."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from photos import encode, noise, smooth
from PIL import Image
from skimage import data

import fastcnn as fc
from fastcnn.io._cache import PhotoCache
from fastcnn.io.image import Preprocess, load_image
from fastcnn.training import folders
from fastcnn.training.data import Dataset
from fastcnn.training.folders import PhotoSource, with_cache


def photo_of(pixels: np.ndarray, **settings: object) -> bytes:
    return encode(Image.fromarray(pixels), "JPEG", quality=92, **settings)


@pytest.mark.parametrize(
    ("at_least", "shape"),
    [((301, 400), (600, 800)), ((300, 400), (300, 400)), ((75, 100), (75, 100)), ((1, 1), (75, 100))],
)
def test_the_smallest_scale_that_covers_what_is_asked_for(at_least, shape):
    assert load_image(photo_of(smooth(600, 800)), at_least=at_least).shape == (*shape, 3)


def test_photos_that_lie_on_their_side_are_reduced_by_their_upright_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = photo_of(smooth(400, 1600), exif=exif.tobytes())  # upright: 1600 high, 400 wide
    assert load_image(photo, at_least=(800, 60)).shape == (800, 200, 3)


def test_other_formats_and_open_images_come_as_they_are():
    for format_ in ("PNG", "BMP"):
        content = encode(Image.fromarray(noise(80, 64, 3)), format_)
        np.testing.assert_array_equal(load_image(content, at_least=(8, 8)), load_image(content))
    image = Image.open(io.BytesIO(photo_of(smooth(80, 64))))
    assert load_image(image, at_least=(8, 8)).shape == (80, 64, 3) and image.size == (64, 80)


@pytest.mark.parametrize("picture", ["astronaut", "coffee", "chelsea", "rocket"])
@pytest.mark.parametrize("preprocess", [Preprocess(), Preprocess(64, 1.0, "bilinear")])
def test_reduced_photos_differ_by_a_grey_level_or_two(picture, preprocess):
    pixels = np.asarray(Image.fromarray(getattr(data, picture)()).resize((1800, 1500)))
    photo = photo_of(pixels)
    whole = preprocess._fitted(load_image(photo)).astype(int)
    difference = np.abs(whole - preprocess.pixels(photo))
    assert 0 < difference.mean() < 2
    np.testing.assert_array_equal(preprocess.pixels(photo), preprocess.pixels(photo))


def test_parts_of_reduced_photos_are_not_smaller_than_the_input():
    for share in (0.25, 0.5, 1.0):
        height, width, _ = Preprocess((64, 32)).reduced(photo_of(smooth(900, 1000)), share).shape
        assert height * width * share >= 64 * 32 and min(height / 64, width / 32) == pytest.approx(share**-0.5, 0.03)
    assert Preprocess(64).reduced(noise(40, 30, 3), 0.5).shape == (40, 30, 3)  # never larger


# -- the cache ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "disk", "calls"), [(300, 0, 3), (100, 200, 3), (100, 100, 4), (0, 0, 6), (0, 1000, 3)]
)
def test_cache_keeps_what_fits_and_gives_the_same_bits(memory, disk, calls):
    photos, made = [noise(5, 4, 5, seed=i) for i in range(3)], []
    cache = PhotoCache(memory, disk)
    for _ in range(2):
        for i, pixels in enumerate(photos):
            np.testing.assert_array_equal(cache.get(i, lambda p=pixels: made.append(1) or p), pixels)
    assert len(made) == calls
    assert pickle.loads(pickle.dumps(cache))._kept == {}


def test_a_full_disk_is_no_error(monkeypatch):
    def full(*_: object) -> int:
        raise OSError("no space left")

    monkeypatch.setattr("os.pwrite", full)
    cache, made = PhotoCache(0, 1000), []
    for _ in range(2):
        assert cache.get(0, lambda: made.append(1) or noise(2, 2, 3)).shape == (2, 2, 3)
    assert len(made) == 2


def test_cache_serves_many_threads():
    photos = [noise(8, 8, 3, seed=i) for i in range(40)]
    cache = PhotoCache(20 * 192, 12 * 192)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: cache.get(i % 40, lambda: photos[i % 40]), range(400)))
    assert all(np.array_equal(pixels, photos[i % 40]) for i, pixels in enumerate(got))


@pytest.mark.parametrize("augment", [None, fc.Augment(), fc.Augment(crop=1)])
def test_fit_decodes_each_photo_once_and_learns_the_same(monkeypatch, augment):
    photos = [photo_of(noise(60, 60, 3, seed=i)) for i in range(8)]
    decoded = []

    def counted(source, **settings):
        decoded.append(source)
        return load_image(source, **settings)

    monkeypatch.setattr("fastcnn.io.preprocess.load_image", counted)
    states = []
    for keep in (with_cache, lambda data: data):
        monkeypatch.setattr(folders, "with_cache", keep)
        source = PhotoSource(photos, folders.preprocess_for((3, 8, 8)))
        model = fc.zoo.small_cnn(2, 3, 8)
        decoded.clear()
        model.fit(Dataset.of(source, [0, 1] * 4), epochs=3, augment=augment, batch_size=4)
        states.append((len(decoded), model.state_dict()))
    assert [count for count, _ in states] == [8, 24]
    assert all(np.array_equal(states[0][1][name], array) for name, array in states[1][1].items())
