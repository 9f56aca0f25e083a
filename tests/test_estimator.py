"""ImageClassifier: scikit-learn's own checks, its tools around it, and what images and labels may be."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastcnn as fc
from fastcnn import ImageClassifier

# Checks of scikit-learn that are not met, and why.
EXCEPTIONS = {
    f"check_sample_weight_equivalence_on_{kind}_data": "each repetition draws dropout of its own"
    for kind in ("dense", "sparse")
}


def blobs(count=60, size=8, channels=3, seed=0):
    """uint8 photos (N, H, W, C), bright in the upper or the lower half."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 120, (count, size, size, channels), dtype=np.uint8)
    labels = np.arange(count) % 2
    images[labels == 0, : size // 2] += 100
    images[labels == 1, size // 2 :] += 100
    return images, np.array(["above", "below"])[labels]


def quick(**settings):
    return ImageClassifier(**{"epochs": 6, "random_state": 0, **settings})


# -- the contract -------------------------------------------------------------------------------------


def test_check_estimator():
    results = check_estimator(ImageClassifier(), expected_failed_checks=EXCEPTIONS, on_skip=None)
    assert len(results) > 40
    assert {result["status"] for result in results} <= {"passed", "skipped", "xfail"}
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    needs_pandas = {"check_classifier_data_not_an_array", "check_sample_weights_pandas_series"}
    assert skipped <= {"check_array_api_input", *needs_pandas}  # neither an array API nor pandas here


def test_parameters():
    classifier = ImageClassifier(epochs=3)
    assert is_classifier(classifier) and repr(classifier) == "ImageClassifier(epochs=3)"
    assert clone(classifier).get_params() == classifier.get_params()
    assert classifier.set_params(learning_rate=0.1).learning_rate == 0.1
    with pytest.raises(ValueError, match="Invalid parameter 'layers'"):
        classifier.set_params(layers=3)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        classifier.predict([[1.0]])


def test_inside_scikit_learns_tools():
    x, y = blobs()
    rows = x.reshape(60, -1).astype(float)
    pipeline = make_pipeline(StandardScaler(), quick(input_shape=(8, 8, 3)[::-1]))
    assert cross_val_score(pipeline, rows, y, cv=3).mean() > 0.8
    search = GridSearchCV(quick(), {"learning_rate": [1e-9, 3e-3]}, cv=2).fit(x.reshape(60, -1), y)
    assert search.best_params_ == {"learning_rate": 3e-3} and search.best_score_ > 0.9
    assert set(search.predict(x.reshape(60, -1))) == {"above", "below"}


def test_without_scikit_learn():
    script = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import numpy as np, fastcnn\n"
        "x, y = np.random.default_rng(0).random((20, 6)), [0, 1] * 10\n"
        "c = fastcnn.ImageClassifier(epochs=1, random_state=0)\n"
        "try: c.predict(x)\n"
        "except ValueError as error: assert 'not fitted' in str(error)\n"
        "c.fit(x, y); assert c.predict(x).shape == (20,); print(c.score(x, y) <= 1)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_it_is_one_of_scikit_learns_where_that_is_installed():
    assert isinstance(quick(), BaseEstimator) and isinstance(quick(), ClassifierMixin)
    script = "import sys, fastcnn; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_parameters_within_parameters():
    classifier = quick(augment=fc.Augment(flip=False))
    assert classifier.get_params()["augment__flip"] is False and "augment__flip" not in classifier.get_params(
        deep=False
    )
    classifier.set_params(augment__crop=0.7, augment=fc.Augment(rotation=0))
    assert classifier.augment == fc.Augment(rotation=0, crop=0.7)
    for name in ("augment__size", "epochs__x", "a__b"):
        with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
            classifier.set_params(**{name: 1})
    x, y = blobs(24)
    search = GridSearchCV(classifier.set_params(epochs=1), {"augment__flip": [True, False]}, cv=2).fit(x, y)
    assert search.best_params_["augment__flip"] in (True, False)


@pytest.mark.filterwarnings("ignore:ImageClassifier. classes are out of balance")
def test_weights_of_classes_and_inputs():
    x, y = blobs(40)
    many = np.r_[0:40:2, 1:9:2]  # 20 above, 4 below
    x, y = x[many], y[many]
    weights = {"above": 24 / 40, "below": 24 / 8}
    by_inputs = quick(class_weight=None).fit(x, y, [weights[label] for label in y])
    for given in ("auto", "balanced", weights, [weights["above"], weights["below"]]):
        other = quick(class_weight=given).fit(x, y)
        np.testing.assert_array_equal(other.predict_proba(x), by_inputs.predict_proba(x))
    plain = quick(class_weight=None).fit(x, y)
    assert not np.array_equal(plain.predict_proba(x), by_inputs.predict_proba(x))
    np.testing.assert_array_equal(
        plain.predict_proba(x), quick(class_weight=None).fit(x, y, np.ones(24)).predict_proba(x)
    )


def test_warm_start_goes_on():
    x, y = blobs()
    at_once = quick(epochs=4, schedule="constant").fit(x, y)
    in_parts = quick(epochs=2, schedule="constant", warm_start=True).fit(x, y).fit(x, y)
    np.testing.assert_array_equal(in_parts.predict_proba(x), at_once.predict_proba(x))
    assert in_parts.n_iter_ == len(in_parts.loss_curve_) == 4 and in_parts.loss_curve_ == at_once.loss_curve_
    with pytest.raises(ValueError, match=r"y has the classes .*'other'.* for warm_start"):
        in_parts.fit(x, np.where(y == "above", "above", "other"))


def test_few_inputs_are_gone_through_more_often():
    x, y = blobs(20, size=4)
    assert ImageClassifier(network=lambda s, c: fc.Sequential(fc.Flatten(), fc.Linear(48, c))).fit(x, y).n_iter_ == 200
    assert quick(epochs=None, batch_size=1).fit(x, y).n_iter_ == 20


# -- images and labels --------------------------------------------------------------------------------


def test_all_forms_of_the_same_images_give_the_same():
    x, y = blobs()
    first = x.transpose(0, 3, 1, 2)
    forms = {
        "uint8, channels last": x,
        "uint8, channels first": first,
        "float64": first.astype(float),
        "float32, Fortran order": np.asfortranarray(x.astype(np.float32)),
        "a list": x.tolist(),
    }
    probabilities = [quick().fit(form, y).predict_proba(form) for form in forms.values()]
    flat = quick(input_shape=(3, 8, 8)).fit(first.reshape(60, -1), y)
    probabilities.append(flat.predict_proba(first.reshape(60, -1)))
    for other in probabilities:
        np.testing.assert_array_equal(other, probabilities[0])
    # Scaled, they only differ by rounding.
    scaled = quick().fit(x / 255, y)
    np.testing.assert_allclose(scaled.predict_proba(x / 255), probabilities[0], atol=1e-2)
    assert (flat.n_features_in_, scaled.n_features_in_) == (192, 192)


def test_grey_images_and_rows():
    x, y = blobs(channels=1)
    assert quick().fit(x[..., 0], y).score(x[..., 0], y) == 1  # (N, H, W)
    assert quick().fit(x, y).model_.input_shape == (1, 8, 8)
    rows = np.random.default_rng(0).standard_normal((200, 5)) * [1, 1000, 1e-3, 1, 0] + [0, 5e4, 0, 3, 7]
    labels = rows[:, 1] > 5e4
    classifier = quick(epochs=20).fit(rows, labels)
    assert classifier.score(rows, labels) > 0.95 and classifier.classes_.dtype == bool
    assert classifier.predict(rows).dtype == bool


def test_files_and_pretrained(tmp_path):
    x, y = blobs(24, size=40)
    paths = [tmp_path / f"{i}.png" for i in range(24)]
    for pixels, path in zip(x, paths, strict=True):
        Image.fromarray(pixels).save(path)
    files = quick(input_shape=(3, 16, 16)).fit(paths, y)
    assert files.score([str(path) for path in paths], y) == 1
    with pytest.raises(fc.ImageError, match="broken"):
        (tmp_path / "broken.png").write_bytes(b"no photo")
        files.predict([tmp_path / "broken.png"])
    pretrained = quick(pretrained=True, epochs=15).fit(x, y)
    assert pretrained.model_.input_shape == (3, 224, 224) and pretrained.score(paths, y) > 0.8
    np.testing.assert_array_equal(pretrained.predict_proba(x), pretrained.predict_proba(paths))
    with pytest.raises(ValueError, match="expected files, or uint8"):
        pretrained.predict(x.astype(float))


def test_networks():
    x, y = blobs()
    assert (
        sum(
            a.size
            for _, a in quick(network="lenet", epochs=1)
            .fit(np.zeros((4, 28, 28)), [0, 1] * 2)
            .model_.named_parameters()
        )
        == 61_706 - 8 * 85
    )
    model = fc.Sequential(fc.Flatten(), fc.Linear(192, 2, rng=0))
    before = model.state_dict()["1.weight"].copy()
    classifier = clone(quick(network=model)).fit(x, y)
    assert classifier.score(x, y) == 1 and np.array_equal(model.state_dict()["1.weight"], before)
    shapes = []

    def build(shape, classes):
        shapes.append((shape, classes))
        return fc.Sequential(fc.Flatten(), fc.Linear(192, classes, rng=0))

    assert quick(network=build).fit(x, y).score(x, y) == 1 and shapes == [((3, 8, 8), 2)]
    with pytest.raises(ValueError, match="network has 2 outputs, expected 3"):
        quick(network=model).fit(x, np.arange(60) % 3)


def test_attributes_and_early_stopping():
    x, y = blobs()
    classifier = quick(epochs=100, validation_fraction=0.2, patience=2).fit(x, y)
    assert classifier.n_iter_ == len(classifier.loss_curve_) < 100
    assert classifier.classes_.tolist() == ["above", "below"] and classifier.n_features_in_ == 192


def test_seeds_and_threads():
    x, y = blobs()
    results = []
    for threads, seed in ((1, 0), (2, 0), (3, 0), (1, 1)):
        with fc.num_threads(threads):
            results.append(quick(random_state=seed, epochs=2, augment=fc.Augment()).fit(x, y).predict_proba(x))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[3])


@pytest.mark.parametrize("copied", [pickle.loads, copy.deepcopy])
def test_partial_fit_and_copies(copied):
    x, y = blobs()
    classifier = quick(learning_rate=0.01)
    with pytest.raises(ValueError, match="classes must be passed"):
        classifier.partial_fit(x, y)
    for _ in range(3):
        classifier.partial_fit(x[:30], y[:30], classes=["above", "below", "beside"])
    other = copied(pickle.dumps(classifier) if copied is pickle.loads else classifier)
    np.testing.assert_array_equal(other.predict_proba(x), classifier.predict_proba(x))
    for estimator in (classifier, other):  # the optimizer's running means went along
        estimator.partial_fit(x[30:], y[30:])
    np.testing.assert_array_equal(other.predict_proba(x), classifier.predict_proba(x))
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 4 and classifier.score(x, y) > 0.9
    assert classifier.predict_proba(x).shape == (60, 3)
    with pytest.raises(ValueError, match="class 'between', expected one of"):
        classifier.partial_fit(x, np.full(60, "between"))
    with pytest.raises(ValueError, match="not the same as on the first call"):
        classifier.partial_fit(x, y, classes=["above"])


@pytest.mark.parametrize(
    ("settings", "x", "y", "message"),
    [
        ({"optimizer": "lion"}, None, None, "optimizer='lion', expected one of adam"),
        ({"schedule": "linear"}, None, None, "schedule='linear'"),
        ({"network": "alexnet"}, None, None, "name='alexnet'"),
        ({"epochs": -1}, None, None, "epochs=-1"),
        ({"input_shape": (3, 9, 9)}, np.zeros((4, 10)), [0, 1, 0, 1], "X has 10 features, expected 243"),
        ({}, np.zeros((4, 2, 2, 2, 2)), [0, 1, 0, 1], r"X.shape=\(4, 2, 2, 2, 2\)"),
        ({}, np.full((4, 2), np.inf), [0, 1, 0, 1], "X contains infinity"),
        ({}, np.zeros((4, 2)), [0, 0, 0, 0], "only one class: 0"),
        ({}, np.zeros((4, 2)), [0.5, 1, 2, 3], "Unknown label type"),
        ({}, np.zeros((4, 2)), [[0, 1]] * 4, "1d array"),
        ({}, np.zeros((4, 2)), [0, 1], "inconsistent numbers of samples"),
    ],
)
def test_bad_arguments_are_named(settings, x, y, message):
    if x is None:
        x, y = blobs(8)
    with pytest.raises(ValueError, match=message):
        quick(**settings).fit(x, y)


MEMORY = """
import sys
import numpy as np
import fastcnn as fc

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

size, count = int(sys.argv[1]), int(sys.argv[2])
make = lambda shape, classes: fc.Sequential(*eval(sys.argv[3]), fc.Linear(int(sys.argv[5]), classes))
settings = {"epochs": 2, "validation_fraction": 0.1, "augment": eval(sys.argv[4])}
fc.ImageClassifier(make, **settings).fit(np.zeros((64, size, size, 3), np.uint8), [0, 1] * 32)  # imports and plans
x = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
before = peak()
classifier = fc.ImageClassifier(make, **settings).fit(x, np.arange(len(x)) % 2)
print((peak() - before) / x.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells the memory")
@pytest.mark.parametrize(
    ("size", "count", "layers", "augment", "features"),
    [
        (32, 20_000, "[fc.MaxPool2d(16), fc.Flatten()]", "None", 12),
        (32, 20_000, "[fc.Flatten()]", "None", 3072),
        (224, 800, "[fc.MaxPool2d(112), fc.Flatten()]", "fc.Augment()", 12),
    ],
)
def test_memory_of_bytes_is_a_few_times_their_size(size, count, layers, augment, features):
    """The images themselves, and less than one and a half times as much beside them."""
    command = [sys.executable, "-c", MEMORY, str(size), str(count), layers, augment, str(features)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1.5


def test_fit_keeps_the_network_alone():
    """Running means stay only where a next `fit` goes on from them, and those of before are let go meanwhile."""
    x, y = np.zeros((8, 4), np.float32), [0, 1] * 4
    held = []

    def build(shape, classes):
        return fc.Sequential(fc.Linear(4, 100_000, rng=0), fc.ReLU(), fc.Linear(100_000, classes, rng=0))

    tracemalloc.start()
    try:
        for warm_start in (False, True):
            before, _ = tracemalloc.get_traced_memory()
            classifier = quick(network=build, epochs=1, warm_start=warm_start).fit(x, y)
            held.append((tracemalloc.get_traced_memory()[0] - before) / (4 * 700_002))
            del classifier
    finally:
        tracemalloc.stop()
    assert held[0] < 1.5 and 2.5 < held[1] < 3.5
