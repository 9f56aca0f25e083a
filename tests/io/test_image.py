"""Tests of what photos can come from, what a network is given of them, and how files of them are found."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photos import assert_pixels, encode, noise
from PIL import Image

from fastcnn.errors import ImageError
from fastcnn.io.image import Preprocess, find_images, images_to_batch, load_image

EXAMPLES = Path(__file__).parents[2] / "examples"


# -- sources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat.png", "coffee.png"])
def test_all_sources_give_the_same(name):
    path = EXAMPLES / name
    content = path.read_bytes()
    expected = np.array(Image.open(path))
    with path.open("rb") as file:
        sources = [
            str(path),
            path,
            content,
            bytearray(content),
            memoryview(content),
            file,
            io.BytesIO(content),
        ]
        for source in [*sources, Image.open(path), expected, np.asfortranarray(expected)]:
            assert_pixels(load_image(source), expected)
        assert not file.closed


def test_a_file_object_that_cannot_seek(tmp_path):
    pixels = noise(5, 4, 3)
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "wb") as writer:
        writer.write(b"skipped" + encode(Image.fromarray(pixels), "PNG"))
        writer.close()
        assert reader.read(7) == b"skipped"
        assert_pixels(load_image(reader), pixels)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_arrays(shape):
    array = noise(*shape)
    for layout in (array, array[::-1, ::-1], np.asfortranarray(array)):
        layout.flags.writeable = False
        pixels = load_image(layout)
        expected = layout[..., :3] if layout.ndim == 3 else layout[..., None]
        assert_pixels(pixels, np.broadcast_to(expected, (5, 4, 3)))
        assert not np.shares_memory(pixels, array)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint16", "int8", "object"])
def test_arrays_of_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=rf"load_image: source\.dtype={dtype}, expected uint8"):
        load_image(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 2), (3, 4, 5), (1, 4, 4, 3), (0, 4, 3), (4, 0), (4, 4, 0)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"load_image: source\.shape=\(.*\), expected \(H, W\), "):
        load_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("source", [None, 3, ["a.png"], object()])
def test_other_types_are_refused(source):
    with pytest.raises(TypeError, match=f"source is of type {type(source).__name__}, expected a path, bytes"):
        load_image(source)


def test_a_text_file_object_is_refused(tmp_path):
    with pytest.raises(TypeError, match="reading the file object gave str, expected bytes"):
        load_image(io.StringIO("text"))


@pytest.mark.parametrize("max_pixels", [0, -1, 1.5, "many", None, True])
def test_max_pixels_is_checked(max_pixels):
    with pytest.raises((ValueError, TypeError), match="load_image: max_pixels="):
        load_image(noise(3, 3), max_pixels=max_pixels)


def test_without_pillow_arrays_still_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert load_image(noise(3, 3)).shape == (3, 3, 3)
    for read in (load_image, Preprocess()):
        with pytest.raises(ImportError, match=r'^reading photos needs Pillow: pip install "fastcnn\[images\]"$'):
            read(EXAMPLES / "cat.png")


def test_pillow_is_imported_when_needed():
    code = "import sys, fastcnn.io.image; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})


# -- what a network is given -------------------------------------------------------------------------------


def resized_then_cropped(pixels: np.ndarray, settings: Preprocess) -> np.ndarray:
    """The same by Pillow alone, on the uncut photo: (height, width, 3) uint8."""
    height, width = settings.size
    least = [int(length / settings.crop_fraction) for length in settings.size]
    scale = max(least[0] / pixels.shape[0], least[1] / pixels.shape[1])
    scaled = [max(least[i], int(pixels.shape[i] * scale + 1e-9)) for i in (0, 1)]
    whole = Image.fromarray(pixels).resize(scaled[::-1], Image.Resampling[settings.interpolation.upper()])
    top, left = round((scaled[0] - height) / 2), round((scaled[1] - width) / 2)
    return np.array(whole.crop((left, top, left + width, top + height)))


def grey_levels(x: np.ndarray, settings: Preprocess) -> np.ndarray:
    """Undo the normalisation of one photo: (height, width, 3) float64, of integers."""
    levels = x[0].transpose(1, 2, 0) * np.array(settings.std) + settings.mean
    assert np.abs(levels - np.rint(levels)).max() < 1e-3
    return np.rint(levels)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(60, 91), (91, 60), (64, 64), (20, 33), (7, 500), (1, 1), (300, 451)])
@pytest.mark.parametrize(("size", "fraction"), [(32, 0.875), ((24, 40), 0.8), ((40, 24), 1.0), (56, 0.9)])
def test_the_middle_is_that_of_the_whole_photo_resized(shape, size, fraction, interpolation):
    settings = Preprocess(size, fraction, interpolation)
    pixels = noise(*shape, 3)
    levels = grey_levels(settings(pixels), settings)
    difference = np.abs(levels - resized_then_cropped(pixels, settings))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.1


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys (1981), equations 15 and 16 with a = -1/2."""
    d = np.abs(distance)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def smoothing_matrix(length: int, begin: float, end: float, size: int) -> np.ndarray:
    """Weights (size, length): how `size` pixels between `begin` and `end` come of `length`."""
    scale = (end - begin) / size
    centres = begin + (np.arange(size) + 0.5) * scale
    weights = cubic((np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("shape", [(48, 48), (96, 80), (17, 29)])
def test_bicubic_against_its_definition(shape):
    settings = Preprocess(28, 0.875, mean=(0, 100, 200), std=(1, 10, 100))
    pixels = noise(*shape, 3)
    scaled = [32 * length // min(shape) for length in shape]
    starts = [round((length - 28) / 2) for length in scaled]
    rows, columns = (
        smoothing_matrix(shape[i], starts[i] * shape[i] / scaled[i], (starts[i] + 28) * shape[i] / scaled[i], 28)
        for i in (0, 1)
    )
    expected = np.einsum("yh,hwc,xw->cyx", rows, pixels.astype(float), columns)
    x = settings(pixels)[0]
    for channel, (mean, std) in enumerate(zip(settings.mean, settings.std, strict=True)):
        inside = (expected[channel] > 1) & (expected[channel] < 254)  # Pillow clips between its two passes, too.
        error = np.abs(x[channel] * std + mean - expected[channel])[inside]
        assert inside.mean() > 0.8 and np.median(error) < 0.6 and (error < 1.5).mean() > 0.95


def test_nearest_repeats_pixels():
    pixels = noise(6, 6, 3)
    x = Preprocess(8, 2 / 3, "nearest", (0,) * 3, (1,) * 3)(pixels)
    middle = pixels[1:5, 1:5].repeat(2, axis=0).repeat(2, axis=1)
    assert (x[0] == middle.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30), (41, 35, 4)])
def test_pixels_and_levels_give_what_a_call_gives(shape):
    settings = Preprocess((20, 30), 1.0, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    photo = noise(*shape)
    pixels, levels = settings.pixels(photo), settings.levels()
    assert pixels.dtype == np.uint8 and pixels.shape == (20, 30, 3) and not np.shares_memory(pixels, photo)
    assert levels.dtype == np.float32 and levels.shape == (3, 256)
    assert (settings(photo)[0] == levels[np.arange(3), pixels].transpose(2, 0, 1)).all()
    if shape == (20, 30, 3):
        assert (pixels == photo).all()


def test_normalisation_is_exact():
    pixels = noise(20, 30, 3)
    settings = Preprocess((20, 30), 1.0, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    x = settings(pixels)
    assert x.shape == (1, 3, 20, 30) and x.dtype == np.float32 and x.flags.c_contiguous
    expected = (pixels.astype(float) - settings.mean) / settings.std
    np.testing.assert_allclose(x[0].transpose(1, 2, 0), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3_000_000), (3_000_000, 1), (2, 1), (1, 1)])
@pytest.mark.parametrize("size", [224, (1, 8192), (8192, 1), 1])
@pytest.mark.parametrize("fraction", [0.01, 0.875, 1.0])
def test_extreme_proportions(shape, size, fraction):
    settings = Preprocess(size, fraction, "lanczos")
    x = settings(np.full((*shape, 3), 200, np.uint8))
    assert x.shape == (1, 3, *settings.size) and (grey_levels(x, settings) == 200).all()


@pytest.mark.parametrize(("name", "settings"), [("cat.png", Preprocess()), ("coffee.png", Preprocess((240, 200)))])
def test_a_file_and_its_pixels_give_the_same(name, settings):
    path = EXAMPLES / name
    expected = settings(np.array(Image.open(path)))
    for source in (path, path.read_bytes(), Image.open(path)):
        assert (settings(source) == expected).all()


@pytest.mark.parametrize(
    "settings",
    [
        Preprocess(),
        Preprocess(size=(12, 10), crop_fraction=1, interpolation="bilinear", mean=[0, 1, 2], std=[3, 4, 5]),
        Preprocess(8, mean=(9,), std=(3,), resize="letterbox", padding=np.uint8(7)),
        Preprocess(8, resize="letterbox", padding=[1, 2, 3]),
        Preprocess(np.int64(8), np.float32(0.5), "nearest", (np.float64(1), 0, 0), (1e-6, 1e6, 1)),
    ],
)
def test_settings_survive_json(settings):
    again = Preprocess.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings and hash(again) == hash(settings) and repr(again) == repr(settings)
    assert isinstance(again.size, tuple) and isinstance(again.mean, tuple)


def test_settings_are_frozen_and_normalised():
    assert Preprocess(size=224) == Preprocess(size=[224, 224]) == Preprocess()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Preprocess().size = 3


WRONG = {
    "size": [
        0,
        -1,
        2.5,
        "224",
        None,
        True,
        [224],
        [1, 2, 3],
        [0, 3],
        8193,
        [8193, 1],
        10**30,
        [[1, 2], [3, 4]],
    ],
    "crop_fraction": [0, -0.5, 0.001, 1.01, "all", None, True, float("nan"), float("inf"), 10**400, [0.5]],
    "interpolation": ["cubic", "", "BICUBIC", 3, None, ["bicubic"], {}],
    "mean": [
        1,
        None,
        "abc",
        [1, 2],
        [1, 2, 3, 4],
        [1, 2, "3"],
        [1, 2, None],
        [1, 2, float("nan")],
        [1, 2, 1e7],
    ],
    "resize": ["fit", "", None, 3, ["crop"]],
    "padding": [0, (1, 2, 3)],  # without a letterbox
    "std": [
        1,
        None,
        "abc",
        [1, 2],
        [1, 1, 0],
        [1, 1, -1],
        [1, 1, float("inf")],
        [1, 1, True],
        [1, 1, [1]],
        {},
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_settings_are_refused(name, value):
    for make in (lambda: Preprocess(**{name: value}), lambda: Preprocess.from_dict(changed(name, value))):
        with pytest.raises((ValueError, TypeError), match=f"Preprocess: {name}"):
            make()


def changed(name: str, value: object) -> dict[str, object]:
    return {**Preprocess().to_dict(), name: value}


def test_settings_must_be_complete_and_known():
    complete = Preprocess().to_dict()
    for name in complete.keys() - {"resize", "padding"}:  # which older files lack
        with pytest.raises(ValueError, match=f"Preprocess: settings lack {name}$"):
            Preprocess.from_dict({key: value for key, value in complete.items() if key != name})
    for name in ("run", "__class__", 3):
        with pytest.raises(ValueError, match=f"Preprocess: settings have an unknown '{name}'"):
            Preprocess.from_dict({**complete, name: 1})
    for settings in ([], "size", None, 3):
        with pytest.raises(TypeError, match=r"Preprocess: settings are of type \w+, expected a mapping"):
            Preprocess.from_dict(settings)


def test_batches():
    settings = Preprocess(32)
    photos = [EXAMPLES / "cat.png", noise(50, 40, 3), (EXAMPLES / "coffee.png").read_bytes()]
    batch = images_to_batch(iter(photos), settings)
    assert batch.shape == (3, 3, 32, 32) and batch.dtype == np.float32 and batch.flags.c_contiguous
    assert all((batch[i] == settings(photo)[0]).all() for i, photo in enumerate(photos))
    assert images_to_batch([], settings).shape == (0, 3, 32, 32)
    stack = noise(4, 20, 30, 3)
    assert (images_to_batch(stack, settings)[2] == settings(stack[2])[0]).all()


@pytest.mark.parametrize("single", ["a.png", Path("a.png"), b"content", io.BytesIO(b"content")])
def test_a_single_photo_is_no_batch(single):
    with pytest.raises(TypeError, match=r"images_to_batch: sources is a single \w+, expected a list"):
        images_to_batch(single, Preprocess())


def test_pickles_name_a_preprocess_by_where_users_know_it():
    data = pickle.dumps(Preprocess(size=(32, 24)), 0)
    for module in (b"fastcnn.io.image", b"fastcnn.io.preprocess"):  # written before it had a file of its own, and since
        assert pickle.loads(data.replace(b"fastcnn.io.preprocess", module)) == Preprocess(size=(32, 24))


def test_a_damaged_photo_of_a_batch_is_named(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(encode(Image.fromarray(noise(30, 30, 3)), "JPEG")[:300])
    with pytest.raises(ImageError, match=r"bad\.jpg: "):
        images_to_batch([EXAMPLES / "cat.png", bad], Preprocess(8))


# -- finding files -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with files of many names, all empty: finding does not read."""
    for name in (
        *("b.jpg", "a.PNG", "c[1].jpeg", "notes.txt", "photo", ".hidden.jpg", "._a.png"),
        *("sub/d.webp", "sub/deep/e.tif", "sub/readme.md", ".cache/f.jpg", "none/notes.txt"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("b.jpg", "b.jpg"),
        (Path("b.jpg"), "b.jpg"),
        (["photo", "b.jpg"], "photo b.jpg"),
        ("notes.txt", "notes.txt"),
        (".hidden.jpg", ".hidden.jpg"),
        (".", "a.PNG b.jpg c[1].jpeg sub/d.webp sub/deep/e.tif"),
        ("sub/", "sub/d.webp sub/deep/e.tif"),
        (["sub", "b.jpg", "sub/d.webp", "sub/*"], "sub/d.webp sub/deep/e.tif b.jpg"),
        ("*.jp*g", "b.jpg c[1].jpeg"),
        ("?.*", "a.PNG b.jpg"),
        ("c[1].jpeg", "c[1].jpeg"),
        ("[ab].*", "a.PNG b.jpg"),
        ("*", "a.PNG b.jpg c[1].jpeg sub/d.webp sub/deep/e.tif"),
        ("**/*.tif", "sub/deep/e.tif"),
        ([], ""),
    ],
)
def test_find_images(folder, patterns, expected):
    assert find_images(patterns) == [Path(name) for name in expected.split()]


def test_find_images_with_absolute_paths(folder):
    assert find_images(folder / "sub") == [folder / "sub/d.webp", folder / "sub/deep/e.tif"]
    assert find_images(f"{folder}/*.jpg") == [folder / "b.jpg"]


@pytest.mark.parametrize("pattern", ["x.jpg", "*.gif", "none", "*.txt", "", "sub/*.png", "a\0.png", "nowhere/"])
def test_what_stands_for_nothing_is_named(folder, pattern):
    for patterns in (pattern, ["b.jpg", pattern]):
        with pytest.raises(FileNotFoundError) as caught:
            find_images(patterns)
        assert str(caught.value) == f"{pattern!r} is no file, and stands for no images"


def test_folders_that_contain_themselves(folder):
    (folder / "sub/loop").symlink_to(folder / "sub")
    assert find_images("sub") == [Path("sub/d.webp"), Path("sub/deep/e.tif")]
