"""Data: targets, splits, augmentation, photos in folders, batches; the same for any number of threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from PIL import Image

from fastcnn import ImageError
from fastcnn.io.image import Preprocess
from fastcnn.training.augment import Augment
from fastcnn.training.data import Dataset, as_targets, random_of, split, targets_of_names
from fastcnn.training.folders import class_folders, dataset_of_folder, preprocess_for
from fastcnn.training.loader import Batches, IterableBatches, read_ahead

STRONG = Augment(crop=0.3, rotation=30, colour=0.5, cutout=0.3, mixup=0.4)
NOTHING = {"flip": False, "crop": 1, "rotation": 0, "colour": 0}


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, level, count in (("zebra", 200, 4), ("ant", 40, 3)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = (rng.integers(0, 40, (40 + i, 50, 3)) + level).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def smooth(channels=3, height=20, width=30):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([y + (c + 1) * x for c in range(channels)])


# -- targets and splits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a"], "expected .* names of classes"),
        (np.zeros((2, 2, 2)), r"y.shape=\(2, 2, 2\)"),
        ([np.nan], "not finite"),
        ([1j], "y.dtype=complex"),
    ],
)
def test_bad_targets_are_named(y, message):
    with pytest.raises(ValueError, match=message):
        as_targets(y)


def test_data_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"len\(y\)=3, expected 2"):
        Dataset.of(np.zeros((2, 4)), [0, 1, 0])
    with pytest.raises(ValueError, match=r"x.shape=\(2,\)"):
        Dataset.of(np.zeros(2), [0, 1])
    with pytest.raises(TypeError, match="x.dtype=complex"):
        Dataset.of(np.zeros((2, 2), complex), [0, 1])
    with pytest.raises(ValueError, match="class 'fly', expected one of ant, bee"):
        targets_of_names(np.array(["ant", "fly"]), ["ant", "bee"])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_split_keeps_proportions(share):
    labels = np.repeat([0, 1, 2], [100, 40, 2])
    learn, validate = split(labels, share, seed=3)
    assert sorted([*learn, *validate]) == list(range(142))
    assert np.bincount(labels[validate]).tolist() == [round(100 * share), round(40 * share), 1]
    assert (split(labels, share, 3)[1] == validate).all() and (split(labels, share, 4)[1] != validate).any()


def test_split_edges():
    assert [part.tolist() for part in split(np.array([0, 0, 1]), 0.5, 0)][1] in ([0], [1])  # one image stays to learn
    learn, validate = split(np.zeros((10, 3), np.float32), 0.3, 0)
    assert (len(learn), len(validate)) == (7, 3)
    for share in (0, 1, -1, 2):
        with pytest.raises(ValueError, match="validation="):
            split(np.arange(3), share, 0)
    with pytest.raises(ValueError, match="leaves one part empty"):
        split(np.array([0, 1, 2]), 0.5, 0)


# -- augmentation -------------------------------------------------------------------------------------


def test_flip_mirrors_exactly_half_of_the_time():
    image, augment = smooth(), Augment(**{**NOTHING, "flip": True})
    results = [augment(image, np.random.default_rng(i)) for i in range(200)]
    flipped = sum(np.array_equal(result, image[:, :, ::-1]) for result in results)
    assert 70 < flipped < 130 and sum(np.array_equal(result, image) for result in results) == 200 - flipped


def test_crop_stretches_a_part():
    image, augment = smooth(), Augment(**{**NOTHING, "crop": 0.25})
    for i in range(50):
        top, left, height, width = augment.draw_crop(np.random.default_rng(i), 20, 30, 1.5)
        assert 0 <= top <= 20 - height + 1e-9 and 0 <= left <= 30 - width + 1e-9
        assert 0.2 <= height * width / 600 <= 1
        result = augment(image, np.random.default_rng(i))
        # On a slope, the mean of a part is the value at its middle.
        middle = (top + height / 2 - 0.5) + (left + width / 2 - 0.5)
        assert result[0].mean() == pytest.approx(middle, abs=1.0) and result.std() < image.std() + 1e-3


def test_rotation_by_90_degrees_is_exact(monkeypatch):
    image, augment = smooth(2, 9, 9), Augment(**{**NOTHING, "rotation": 90})

    class Ninety(np.random.Generator):
        def uniform(self, low, high):
            return high

    result = augment(image, Ninety(np.random.PCG64(0)))
    np.testing.assert_allclose(result, np.rot90(image, -1, axes=(1, 2)), atol=1e-4)


def test_colour_and_cutout():
    image = np.full((3, 16, 16), 0.5, np.float32)
    result = Augment(**{**NOTHING, "colour": 0.5})(image, np.random.default_rng(0))
    assert np.ptp(result) < 1e-6 and 0.25 <= result.mean() <= 0.75  # even surfaces stay even
    image = smooth(3, 16, 16)
    result = Augment(**{**NOTHING, "cutout": 0.5})(image, np.random.default_rng(1))
    changed = (result != image).any(axis=0)
    assert 16 <= changed.sum() <= 64 and len(np.unique(result[0][changed])) == 1
    assert (image == smooth(3, 16, 16)).all()  # the given one is left alone


def test_mixup_blends_images_and_labels_alike():
    images, targets = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    mixed, labels = Augment(mixup=1.0).mix(images, targets, np.random.default_rng(0))
    assert (mixed == labels).all() and mixed.dtype == np.float32
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert ((labels > 0).sum(axis=1) == 2).all()


@pytest.mark.parametrize("name", ["flip", "crop", "rotation", "colour", "cutout", "mixup"])
@pytest.mark.parametrize("value", [-1, "much", np.nan])
def test_bad_settings_are_named(name, value):
    with pytest.raises((ValueError, TypeError), match=f"Augment: {name}"):
        Augment(**{name: value})


# -- photos -------------------------------------------------------------------------------------------


def test_folders_are_classes(photos):
    (photos / ".hidden").mkdir()
    (photos / "readme.txt").touch()
    data, classes = dataset_of_folder(photos, Preprocess(16))
    assert classes == ["ant", "zebra"] and data.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.source.name(0) == str(photos / "ant" / "0.png")
    np.testing.assert_array_equal(data.source.load(4, None, None), Preprocess(16)(photos / "zebra" / "1.png")[0])
    data, _ = dataset_of_folder(photos, Preprocess(16), ["zebra", "mouse", "ant"])
    assert data.labels.tolist() == [2, 2, 2, 0, 0, 0, 0]


def test_bad_folders_are_named(photos):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        class_folders(photos / "nowhere")
    with pytest.raises(ValueError, match="ant: no sub-folders"):
        class_folders(photos / "ant")
    (photos / "empty").mkdir()
    with pytest.raises(ValueError, match="no photos, expected at least one photo of the class 'empty'"):
        class_folders(photos)
    (photos / "empty").rmdir()
    with pytest.raises(ValueError, match="class 'zebra', expected one of ant, bee"):
        dataset_of_folder(photos, Preprocess(8), ["ant", "bee"])
    with pytest.raises(ValueError, match=r"input_shape=\(2, 8, 8\)"):
        preprocess_for((2, 8, 8))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_photo_is_named(photos, workers):
    (photos / "ant" / "1.png").write_bytes(b"no photo")
    data, _ = dataset_of_folder(photos, Preprocess(8))
    with pytest.raises(ImageError, match=r"1\.png"):
        list(Batches(data, 2, workers=workers).epoch(0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastcnn-data")]


# -- batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["arrays", "photos"])
def test_batches_do_not_depend_on_the_number_of_threads(kind, photos):
    if kind == "arrays":
        data = Dataset.of(np.random.default_rng(0).random((7, 3, 8, 8)), [0, 0, 0, 1, 1, 1, 1])
    else:
        data, _ = dataset_of_folder(photos, Preprocess(8))

    def epoch(workers, number, seed=1, first=0):
        batches = Batches(data, 3, 2, augment=STRONG, seed=seed, workers=workers)
        return [np.concatenate([b.x.ravel(), b.y.ravel()]) for b in batches.epoch(number, first)]

    expected = epoch(0, 5)
    assert [len(part) for part in expected] == [3 * 194, 3 * 194, 194]
    for workers in (1, 2, 5):
        for part, other in zip(expected, epoch(workers, 5), strict=True):
            np.testing.assert_array_equal(part, other)
    np.testing.assert_array_equal(epoch(2, 5, first=2)[0], expected[2])  # where a resumed run goes on
    assert (epoch(2, 6)[0] != expected[0]).any() and (epoch(2, 5, seed=2)[0] != expected[0]).any()


def test_every_input_once_in_each_epoch():
    batches = Batches(Dataset.of(np.arange(10.0)[:, None], np.arange(10)), 4)
    orders = [np.concatenate([batch.y for batch in batches.epoch(epoch)]).tolist() for epoch in (0, 1, 0)]
    assert len(batches) == 3 and sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] == orders[2] != orders[1]
    assert random_of(0, 0, 1, 2).random() != random_of(0, 0, 2, 1).random()


def test_iterables():
    pairs = [(np.ones((2, 1)), [0, 1]), (np.zeros((1, 1)), [1])]
    batches = IterableBatches(pairs)
    assert len(batches) == 2 and [b.y.tolist() for b in batches.epoch(3)] == [[0, 1], [1]]
    assert [b.y.tolist() for b in batches.epoch(0, first=1)] == [[1]]
    once = IterableBatches(iter(pairs))
    assert len(list(once.epoch(0))) == 2
    with pytest.raises(ValueError, match="only once"):
        list(once.epoch(1))
    with pytest.raises(ValueError, match="without a length"):
        len(once)
    with pytest.raises(TypeError, match="expected pairs"):
        list(IterableBatches([np.zeros(3)]).epoch(0))


def test_reading_ahead_is_bounded_and_ends():
    made = []

    def make(number, stopped):
        made.append(number)
        return number

    numbers = read_ahead(make, range(100), 3)
    assert next(numbers) == 0
    time.sleep(0.05)
    assert len(made) <= 5  # however slow the one who takes them
    numbers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastcnn-data")]


def test_a_closed_reader_stops_in_the_middle_of_a_batch():
    def make(number, stopped):
        if number:
            while not stopped():
                time.sleep(0.001)
        return number

    numbers = read_ahead(make, range(5), 2)
    assert next(numbers) == 0
    start = time.perf_counter()
    numbers.close()
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("name", ["batch_size", "workers"])
@pytest.mark.parametrize("bad", [-1, 1.5, "2", set(), 2**40])
def test_sizes_of_batches_are_counts(name, bad):
    data = Dataset.of(np.zeros((2, 3), np.float32), [0, 1])
    with pytest.raises((TypeError, ValueError), match=f"^{name}.*expected an integer"):
        Batches(data, **{"batch_size": 1, name: bad})


def test_images_of_integers_are_changed_as_floats():
    image = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    augment = Augment(crop=0.5, rotation=20)
    np.testing.assert_array_equal(augment(image, 0), augment(image.astype(np.float32), 0))
