"""What Model.fit takes beside data: weights, gradients over several batches, averages, callbacks, functions; and that a
second fit goes on."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.training import Callback
from fastcnn.training.data import Dataset
from fastcnn.training.loader import Batches
from fastcnn.training.weights import balanced

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 6)).astype(np.float32), RNG.integers(0, 3, 30)
IMAGES = RNG.random((12, 3, 6, 6)).astype(np.float32)


def network(seed=0):
    return fc.Sequential(fc.Linear(6, 8, rng=seed), fc.Tanh(), fc.Dropout(0.2), fc.Linear(8, 3, rng=seed + 1))


def plain(seed=0):
    return fc.Sequential(fc.Linear(6, 3, rng=seed))


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(np.array_equal(a[name], b[name]) for name in a)


def assert_close(a, b):
    for name, array in a.state_dict().items():
        np.testing.assert_allclose(array, b.state_dict()[name], rtol=1e-4, atol=1e-6)


def batches(size=10):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, 30, size)]


# -- weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "weights"),
    [([1, 2, 0.5], [1, 2, 0.5]), ({1: 3}, [1, 3, 1]), ({"b": 3, "c": 0}, [1, 3, 0]), ("balanced", None)],
)
def test_class_weights_are_those_of_the_loss(given, weights):
    weights = balanced(Y, 3) if weights is None else weights
    models = plain(), plain()
    models[0].classes = list("abc")
    settings = {"epochs": 3, "batch_size": 7, "optimizer": fc.SGD(0.1)}
    models[0].fit(X, Y, class_weight=given, **settings)
    models[1].fit(X, Y, loss=fc.CrossEntropy(class_weights=weights), **settings)
    assert_close(*models)


def test_balanced_is_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    np.testing.assert_allclose(balanced(Y, 3), compute_class_weight("balanced", classes=np.arange(3), y=Y))


def test_sample_weights_follow_their_inputs_through_order_and_split():
    weights = np.where(Y == 0, 5.0, 1.0)
    models = plain(), plain(), plain()
    settings = {"epochs": 2, "batch_size": 8, "optimizer": fc.SGD(0.1), "validation": 0.2}
    models[0].fit(X, Y, sample_weight=weights, **settings)
    models[1].fit(X, Y, class_weight={0: 5}, **settings)
    assert same(models[0], models[1])
    models[2].fit(X, Y, **settings)
    assert not same(models[0], models[2])


def test_weights_of_batches():
    weighted, by_class = plain(), plain()
    settings = {"epochs": 2, "optimizer": fc.SGD(0.1)}
    weighted.fit([(x, y, np.where(y == 2, 4, 1)) for x, y in batches()], **settings)
    by_class.fit(batches(), class_weight={2: 4}, **settings)
    assert same(weighted, by_class)


def test_blended_images_keep_their_labels_weights():
    y, weights = np.arange(12) % 3, RNG.random(12) + 0.1
    data = Dataset(Dataset.of(IMAGES, y).source, y, np.arange(12), weights)
    augment = fc.Augment(False, 1, 0, 0, mixup=0.4)
    (batch,) = Batches(data, 12, 3, shuffle=False, augment=augment).epoch(0)
    (unweighted,) = Batches(Dataset.of(IMAGES, y), 12, 3, shuffle=False, augment=augment).epoch(0)
    np.testing.assert_array_equal(batch.x, unweighted.x)
    part = unweighted.y[np.arange(12), y]  # no neighbours have the same label
    of_labels = (
        np.eye(3)[y] * (part * weights)[:, None]
        + np.eye(3)[np.roll(y, 1)] * ((1 - part) * np.roll(weights, 1))[:, None]
    )
    np.testing.assert_allclose(batch.y * batch.weights[:, None], of_labels, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weight": {"z": 1}}, "class_weight has the class 'z', expected one of 0, 1, 2"),
        ({"class_weight": [1, 2]}, r"class_weight.shape=\(2,\), expected \(3,\)"),
        ({"class_weight": [0, 0, 0]}, "not all of them zero"),
        ({"class_weight": "auto"}, "expected 'balanced'"),
        ({"sample_weight": [1, 2]}, r"sample_weight.shape=\(2,\), expected \(30,\)"),
        ({"sample_weight": [-1] * 30}, "numbers >= 0"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"ema": 1.0}, "ema=1.0, expected a number from 0 to below 1"),
        ({"callbacks": [3]}, "functions of one argument, or objects with one of on_start"),
        ({"augment": 3}, "expected an Augment, or a function of an image"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        plain().fit(X, Y, **settings)


# -- several batches, averages ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 4])  # the last update of 4 has a batch that is cut, and fewer of them
def test_accumulated_batches_are_as_large_ones(size):
    models, updates = (plain(), plain()), []
    large, small = ({"epochs": 2, "optimizer": fc.SGD(0.1), "batch_size": n} for n in (3 * size, size))
    models[0].fit(X, Y, **large)
    models[1].fit(X, Y, **small, accumulate=3, callbacks=[lambda run: updates.append(run.trainer.updates)])
    assert_close(*models)
    assert updates == [-(-30 // (3 * size)), 2 * -(-30 // (3 * size))]
    generated = plain()
    generated.fit((batch for batch in batches(10)), accumulate=2, epochs=1, optimizer=fc.SGD(0.1))
    trainer = fc.Trainer(whole := plain(), fc.SGD(0.1))
    trainer.step(X[:20], Y[:20])
    trainer.step(X[20:], Y[20:])
    assert_close(generated, whole)


def test_the_average_is_validated_and_left():
    seen = []
    model, other = network(), network()
    settings = {"epochs": 4, "optimizer": fc.SGD(0.5), "validation": (X, Y), "seed": 3}

    def look(run):
        seen.append((run.model.state_dict(), run.trainer.averages()))

    history = model.fit(X, Y, ema=0.9, callbacks=[look], **settings)
    other.fit(X, Y, **settings)
    raw, averages = seen[-1]
    assert all(np.array_equal(raw[name], array) for name, array in other.state_dict().items())
    assert all(np.array_equal(averages[name], array) for name, array in model.state_dict().items())
    assert model.evaluate(X, Y).loss == pytest.approx(history["validation_loss"][-1], rel=1e-5)
    best = network()
    history = best.fit(X, Y, ema=0.9, keep_best=True, **settings)
    assert best.evaluate(X, Y).loss == pytest.approx(min(history["validation_loss"]), rel=1e-5)


@pytest.mark.parametrize("settings", [{"ema": 0.9}, {"accumulate": 2}, {"class_weight": "balanced", "ema": 0.5}])
def test_a_checkpoint_within_an_epoch_goes_on_to_the_same_bits(settings, tmp_path):
    path = tmp_path / "run"
    whole, cut = network(), network()
    settings |= {"epochs": 3, "batch_size": 4, "optimizer": fc.Adam(0.01)}
    whole.fit(X, Y, **settings)

    class Stop(Callback):
        def on_batch(self, run):
            if run.epoch == 1 and run.step == 3:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        cut.fit(X, Y, checkpoint=path, checkpoint_steps=1, callbacks=[Stop()], **settings)
    again = network(5)
    again.fit(X, Y, checkpoint=path, resume=True, **settings)
    assert same(again, whole)


# -- callbacks ----------------------------------------------------------------------------------------


def test_callbacks_are_called_at_start_batches_epochs_and_end():
    calls = []

    class Tell(Callback):
        def on_start(self, run):
            calls.append(("start", run.epochs))

        def on_batch(self, run):
            calls.append(("batch", run.step, run.loss > 0))

        def on_epoch(self, run):
            calls.append(("epoch", run.epoch, len(run.history["loss"])))

        def on_end(self, run):
            calls.append(("end", run.epoch))

    plain().fit(X, Y, epochs=2, batch_size=20, callbacks=[Tell(), lambda run: calls.append("function")])
    epoch = [("batch", 1, True), ("batch", 2, True)]
    assert calls == [
        *[("start", 2), *epoch, ("epoch", 1, 1), "function", *epoch, ("epoch", 2, 2), "function", ("end", 2)]
    ]


def test_a_callback_ends_an_epoch_early():
    class Stop(Callback):
        def on_batch(self, run):
            if run.step == 2:
                run.stop()

    model, other = plain(), plain()
    history = model.fit(X, Y, epochs=5, batch_size=5, callbacks=[Stop()], validation=(X, Y))
    assert history.epochs == len(history["validation_loss"]) == 1
    trainer = fc.Trainer(other, fc.Adam())
    for batch in list(Batches(Dataset.of(X, Y), 5).epoch(0))[:2]:
        trainer.step(batch.x, batch.y)
    assert same(model, other)


# -- a second fit goes on -----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [None, fc.SGD(0.1, momentum=0.9)])
def test_epochs_one_by_one_are_the_same_as_at_once(optimizer):
    at_once, one_by_one = network(), network()
    at_once.fit(X, Y, epochs=4, optimizer=optimizer, batch_size=7)
    for _ in range(4):
        one_by_one.fit(X, Y, epochs=1, optimizer=optimizer, batch_size=7)
    assert same(at_once, one_by_one)


def test_augmentation_goes_on_too():
    models = [fc.zoo.small_cnn(3, 3, 6) for _ in range(2)]
    augment, y = fc.Augment(), np.arange(12) % 3
    models[0].fit(IMAGES, y, epochs=2, augment=augment)
    for _ in range(2):
        models[1].fit(IMAGES, y, epochs=1, augment=augment)
    assert same(*models)


def test_other_weights_begin_anew():
    model, fresh = network(), network()
    before = model.state_dict()
    model.fit(X, Y, epochs=2)
    fresh.fit(X, Y, epochs=2)
    model.load_state_dict(before)
    model.fit(X, Y, epochs=2)
    assert same(model, fresh)


def test_another_optimizer_keeps_the_order_but_no_means():
    model = plain()
    model.fit(X, Y, epochs=1, optimizer=fc.Adam(0.1), batch_size=10)
    trainer = fc.Trainer(other := plain(), fc.Adam(0.1))
    for batch in Batches(Dataset.of(X, Y), 10).epoch(0):
        trainer.step(batch.x, batch.y)
    model.fit(X, Y, epochs=1, optimizer=fc.SGD(0.1, momentum=0.9), batch_size=10)
    trainer = fc.Trainer(other, fc.SGD(0.1, momentum=0.9))
    for batch in Batches(Dataset.of(X, Y), 10).epoch(1):
        trainer.step(batch.x, batch.y)
    assert same(model, other)


# -- functions ----------------------------------------------------------------------------------------


def test_a_loss_function_trains_and_validates():
    def focal(scores, y):
        logs = scores.log_softmax()[np.arange(len(y)), y]
        return -((1 - np.exp(logs)) ** 2) * logs

    model = plain()
    history = model.fit(X, Y, epochs=30, loss=focal, validation=(X, Y), optimizer=fc.SGD(0.5), class_weight="balanced")
    assert history["validation_loss"][-1] < 0.7 * history["validation_loss"][0]
    scores = model(X)
    logs = np.log(fc.reference.softmax(scores, 1))[np.arange(30), Y]
    assert history["validation_loss"][-1] == pytest.approx(float((-((1 - np.exp(logs)) ** 2) * logs).mean()), rel=1e-4)


def test_augmentations_are_plain_functions_of_images():
    seen = []

    def upside_down(image):
        seen.append((image.shape, image.dtype))
        return image[::-1]

    data = Dataset.of(IMAGES, np.arange(12) % 3)
    from fastcnn.training.augment_functions import as_augment

    (batch,) = Batches(data, 12, shuffle=False, augment=as_augment(upside_down, "")).epoch(0)
    np.testing.assert_array_equal(batch.x, IMAGES[:, :, ::-1])
    assert set(seen) == {((6, 6, 3), np.dtype(np.float32))}
    noisy = as_augment(lambda image, rng: image + rng.random(image.shape), "")
    runs = [list(Batches(data, 12, augment=noisy, workers=w).epoch(0))[0].x for w in (0, 2)]
    np.testing.assert_array_equal(*runs)
    with pytest.raises(ValueError, match=r"returned \(3, 6, 3\), expected \(6, 6, 3\)"):
        as_augment(lambda image: image[::2], "")(IMAGES[0], 0)


def test_augmentations_of_other_libraries():
    """Stand-ins of their classes: told by the module, called as the libraries are."""
    from PIL import Image

    class Compose:
        def __call__(self, **named):
            return {"image": named["image"] + 1}

    class Flip:
        def __call__(self, image):
            assert isinstance(image, Image.Image)
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    Compose.__module__, Flip.__module__ = "albumentations.core.composition", "torchvision.transforms.v2"
    from fastcnn.training.augment_functions import as_augment

    photo = RNG.integers(0, 255, (3, 4, 5), np.uint8)
    np.testing.assert_array_equal(as_augment(Compose(), "")(photo, 0), photo + 1.0)
    np.testing.assert_array_equal(as_augment(Flip(), "")(photo, 0), photo[:, :, ::-1])
