"""Photos that cannot be read: `fit`, `evaluate` and `predict` leave them out by name, or stop, as the commands do."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from photo_folders import make_photos, spoil

import fastcnn as fc
from fastcnn.errors import FastcnnWarning
from fastcnn.training.folders import class_folders

BROKEN = ("left side/3.jpg", "right side/7.jpg")
SETTINGS = {"epochs": 1, "batch_size": 8, "seed": 3}


@pytest.fixture
def photos(tmp_path):
    """A folder with two broken photos, and the same one without them."""
    folder, good = make_photos(tmp_path / "photos", 15), make_photos(tmp_path / "good", 15)
    spoil(folder, *BROKEN)
    for name in BROKEN:
        (good / name).unlink()
    return folder, good


def network():
    model = fc.zoo.small_cnn(2, 3, 16, rng=0)
    model.classes = ["left side", "right side"]
    return model


def listed(folder):
    found = class_folders(folder)
    return [str(path) for paths in found.values() for path in paths], [n for n, paths in found.items() for _ in paths]


def warned(call, count=1):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    texts = [str(w.message) for w in caught if issubclass(w.category, FastcnnWarning)]
    assert len(texts) == count, texts
    for text in texts:
        assert "2 of 30 photos cannot be read and are left out:" in text and all(name in text for name in BROKEN)
    return result


@pytest.mark.parametrize("form", ["folder", "paths", "pairs"])
def test_what_is_learned_is_learned_from_the_others(form, photos):
    folder, good = photos

    def data(folder):
        if form == "folder":
            return (folder,)
        return listed(folder) if form == "paths" else (list(zip(*listed(folder), strict=True)),)

    expected, model = network(), network()
    expected.fit(*data(good), **SETTINGS)
    warned(lambda: model.fit(*data(folder), **SETTINGS))
    assert all(np.array_equal(array, model.state_dict()[name]) for name, array in expected.state_dict().items())
    report = warned(lambda: model.evaluate(*data(folder)))
    assert report.count == 28 and report.accuracy == expected.evaluate(*data(good)).accuracy


def test_weights_stay_with_their_photos(photos):
    folder, good = photos
    paths, labels = listed(folder)
    weights = np.arange(30) % 5 + 1.0
    kept = [not path.endswith(BROKEN) for path in paths]
    expected, model = network(), network()
    expected.fit(*listed(good), **SETTINGS, sample_weight=weights[kept])
    warned(lambda: model.fit(paths, labels, **SETTINGS, sample_weight=weights))
    for name, array in expected.state_dict().items():
        np.testing.assert_allclose(array, model.state_dict()[name], atol=1e-6)


def test_each_set_is_told_once(photos):
    folder, _ = photos
    warned(lambda: network().fit(folder, **SETTINGS, validation=folder), 2)
    warned(lambda: network().fit(folder, **SETTINGS, validation=0.2))
    warned(lambda: network().cross_validate(folder, folds=2, epochs=1))
    warned(lambda: network().find_learning_rate(folder, steps=3))
    with pytest.raises(fc.ImageError, match="2 of 30 photos cannot be read:"):
        network().cross_validate(folder, folds=2, epochs=1, on_error="stop")


@pytest.mark.parametrize("task", ["names", "numbers", "labels"])
def test_predictions_stay_in_the_order_of_the_photos(task, photos):
    folder, good = photos
    model = network()
    model.classes = None if task == "numbers" else model.classes
    model.task = "multi_label" if task == "labels" else None
    paths, _ = listed(folder)
    lost = np.array([path.endswith(BROKEN) for path in paths])
    probable = warned(lambda: model.predict_proba(paths))
    assert np.isnan(probable[lost]).all() and lost.sum() == 2
    np.testing.assert_array_equal(probable[~lost], model.predict_proba(listed(good)[0]))
    predicted = warned(lambda: model.predict(paths))
    np.testing.assert_array_equal(predicted[~lost], model.predict(listed(good)[0]))
    assert predicted[lost].tolist() == {"names": ["", ""], "numbers": [-1, -1], "labels": [[False] * 2] * 2}[task]


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict", "predict_proba"])
def test_it_stops_where_it_shall(call, photos):
    folder, _ = photos
    paths, labels = listed(folder)
    given = (paths, labels) if call in ("fit", "evaluate") else (paths,)
    with pytest.raises(fc.ImageError, match="2 of 30 photos cannot be read:") as caught:
        getattr(network(), call)(*given, on_error="stop")
    assert all(name in str(caught.value) for name in BROKEN)
    spoil(folder, "left side/4.jpg", "left side/5.jpg")
    with pytest.raises(fc.ImageError, match="4 of 30 photos cannot be read; at most 10% are left out"):
        getattr(network(), call)(*given)
    with pytest.raises(ValueError, match="on_error='warn', expected one of skip, stop"):
        getattr(network(), call)(*given, on_error="warn")


def test_an_estimator_answers_for_all_or_none(photos):
    folder, _ = photos
    paths, labels = listed(folder)
    classifier = fc.ImageClassifier(network(), input_shape=(3, 16, 16), epochs=1)
    with pytest.raises(fc.ImageError, match="2 of 30 photos cannot be read:"):
        classifier.fit(paths, labels)
