"""What is given to a training is used, or refused: augmentations, callbacks, settings; and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import GridSearchCV

import fastcnn as fc
from fastcnn.cli import main

RNG = np.random.default_rng(0)


@pytest.fixture
def photos(tmp_path):
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = RNG.integers(0, 100, (20, 24, 3), dtype=np.uint8)
            half = pixels[:, :12] if name == "left" else pixels[:, 12:]
            half += 120
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def network():
    body = (fc.Conv2d(3, 4, 3, rng=0), fc.ReLU(), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(4, 8, rng=1), fc.ReLU())
    model = fc.Sequential(*body, fc.Linear(8, 2, rng=2))
    model.input_shape = (3, 16, 16)
    return model


class Counted(fc.Augment):
    calls: list[tuple[int, ...]] = []

    def __call__(self, image, rng):
        self.calls.append((*image.shape, round(float(image.max()))))
        return np.zeros_like(image)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_augmentation_is_called_for_photos_as_for_arrays(photos, workers):
    Counted.calls.clear()
    model = network()
    model.fit(photos, epochs=2, augment=Counted(), workers=workers)
    assert len(Counted.calls) == 24 and {call[:3] for call in Counted.calls} == {(3, 16, 16)}
    assert 150 < max(call[3] for call in Counted.calls) <= 255  # values of pixels
    Counted.calls.clear()
    model.fit(RNG.random((5, 3, 16, 16)), [0, 1, 0, 1, 0], epochs=2, augment=Counted())
    assert len(Counted.calls) == 10


def test_a_users_augmentation_is_what_is_learned_from(photos):
    """All photos made equal tell nothing: the loss stays that of guessing."""
    loss = network().fit(photos, epochs=1, augment=Counted(), batch_size=1, optimizer=fc.SGD(1e-9))["loss"]
    same = network()
    scores = same(np.full((1, 3, 16, 16), -1, np.float32))[0].astype(np.float64)
    expected = np.log(np.exp(scores).sum()) - scores.mean()
    assert loss == pytest.approx([expected], rel=1e-4)


@pytest.mark.parametrize("change", ["thaw", "freeze", "assign"])
def test_a_callback_may_change_the_frozen_part(change):
    x, y = RNG.standard_normal((20, 3, 16, 16)).astype(np.float32), np.arange(20) % 2
    states = {}
    for reused in (True, False):
        model = network()
        model[0].freeze()

        def callback(run):
            if run.epoch == 2 and change == "thaw":
                run.model[0].thaw()
            elif run.epoch == 2 and change == "freeze":
                run.model[4].freeze()
            elif run.epoch == 2:
                run.model[0].bias = [1, 2, 3, 4]

        data = (x, y) if reused else ([(x, y)],)  # an iterable makes its batches itself: no features are reused
        model.fit(*data, epochs=5, batch_size=20, callbacks=[callback], optimizer=fc.SGD(0.1, momentum=0.9))
        states[reused] = model.state_dict()
    first = network().state_dict()
    for name, array in states[True].items():
        np.testing.assert_allclose(array, states[False][name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert np.array_equal(first["0.weight"], states[True]["0.weight"]) == (change != "thaw")


def test_what_a_callback_has_thawed_is_thawed_after_resuming(tmp_path):
    x, y = RNG.standard_normal((20, 3, 16, 16)).astype(np.float32), np.arange(20) % 2
    results = []
    for stops in ((6,), (4, 6)):
        model = network()
        model[0].freeze()

        def thaw(run):
            if run.epoch == 2:
                run.model[0].thaw()

        path = tmp_path / str(len(stops))
        for epochs in stops:
            model.fit(x, y, epochs, callbacks=[thaw], checkpoint=path, resume=True)
            other = network()
            other[0].freeze()
            results.append(model.state_dict())
            model = other
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[-1][name], err_msg=name)


def test_the_best_epoch_by_any_number():
    x = RNG.standard_normal((60, 3, 16, 16)).astype(np.float32)
    y = RNG.integers(0, 2, 60)
    states = []
    settings = {"validation": 0.4, "optimizer": fc.Adam(0.05), "seed": 3}
    model = network()
    history = model.fit(x, y, 8, **settings, callbacks=[lambda run: states.append(run.model.state_dict())])
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    for name in names:
        best = network()
        assert best.fit(x, y, 8, **settings, keep_best=name)["loss"] == history["loss"]
        for key, array in states[history.best(name)].items():
            np.testing.assert_array_equal(array, best.state_dict()[key], err_msg=name)
    assert len({history.best(name) for name in names}) > 1
    for given, message in (
        ("accuracies", "keep_best='accuracies', expected one of loss, accuracy, .*, True or False"),
        (1, "keep_best=1, expected one of loss"),
    ):
        with pytest.raises(ValueError, match=message):
            network().fit(x, y, 1, keep_best=given)
    with pytest.raises(ValueError, match="keep_best='validation_loss', but there is no validation"):
        network().fit(x, y, 1, keep_best="validation_loss")
    with pytest.raises(ValueError, match=r"keep_best='accuracy', but MSE\(\) counts none"):
        network().fit(x, y, 1, keep_best="accuracy", loss="mse")


@pytest.mark.parametrize("name", ["resume", "recompute", "progress"])
def test_flags_are_true_or_false(name, tmp_path):
    with pytest.raises(TypeError, match=f"fit: {name}='no', expected True or False"):
        network().fit(np.zeros((2, 3, 16, 16)), [0, 1], 1, checkpoint=tmp_path / "c", **{name: "no"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "lenet", "--plot", "a.png"], "--plot a.png: expected with --profile"),
        (["info", "lenet", "--batch", "2"], "--batch 2: expected with --profile"),
        (["info", "lenet", "--threads", "1"], "--threads 1: expected with --profile"),
        (["convert", "lenet", "a.onnx", "--classes", "3"], "--classes 3: expected with --architecture"),
    ],
)
def test_options_that_a_command_would_not_use(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"fastcnn {arguments[0]}: {message}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "tune"])
def test_the_suffix_of_the_output_chooses_the_format_at_once(command, photos, capsys, tmp_path):
    first, *rest = (str(photos), "--size", "8", "--epochs", "1") if command == "train" else ("lenet", "--repeats", "1")
    assert main([command, first, "-o", str(tmp_path / "m.bin"), *rest]) == 2
    error = capsys.readouterr().err
    assert error.endswith("m.bin: unknown format, expected a name that ends in .safetensors or .onnx\n")
    assert error.startswith(f"fastcnn {command}: --output: ")
    if command == "tune":
        assert main([command, first, "-o", str(tmp_path / "m.onnx"), *rest]) == 2
        assert "ONNX files do not hold the answers" in capsys.readouterr().err
        return
    assert main([command, first, "-o", str(tmp_path / "m.onnx"), *rest]) == 0
    assert (tmp_path / "m.onnx").read_bytes()[:2] == b"\x08\x08"  # the version of the format, 8
    assert fc.load(tmp_path / "m.onnx").input_shape is not None


def test_what_may_change_is_for_resuming(tmp_path):
    with pytest.raises(ValueError, match="allow_changed='data', but resume is not set"):
        network().fit(np.zeros((2, 3, 16, 16)), [0, 1], 1, checkpoint=tmp_path / "c", allow_changed="data")


@pytest.mark.parametrize("text", ["abc", "0", "-3", "1.5", "2000"])
def test_a_number_of_threads_that_is_none_is_told(text):
    script = "import fastcnn; print(fastcnn.get_num_threads())"
    environment = {**os.environ, "FASTCNN_NUM_THREADS": text, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stdout) == (0, "1\n")
    assert f"FASTCNN_NUM_THREADS={text!r}, expected a number from 1 to 1024: it is not used" in result.stderr


class Interrupting(fc.Augment):
    """Presses Ctrl-C when it has seen `left` images."""

    left = 30

    def __call__(self, image, rng):
        Interrupting.left -= 1
        if Interrupting.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return image


def test_ctrl_c_ends_a_search():
    x, y = RNG.random((40, 1, 6, 6)), np.arange(40) % 2
    Interrupting.left = 30
    classifier = fc.ImageClassifier(epochs=2, augment=Interrupting(), random_state=0)
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(classifier, {"learning_rate": [1e-3, 1e-2]}, cv=2, error_score="raise").fit(x, y)
    assert Interrupting.left > -40  # the second of four fits has not begun
    Interrupting.left = 30
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(x, y)
    assert classifier.predict(x).shape == (40,)


def test_a_mix_of_ones_own_is_called(photos):
    class Own(fc.Augment):
        def mix(self, images, targets, rng):
            mixed.append(len(images))
            return images, targets

    mixed = []
    network().fit(photos, epochs=1, batch_size=4, augment=Own(mixup=0))
    assert mixed == [4, 4, 4]


@pytest.mark.parametrize("settings", [{}, {"pretrained": True}])
def test_an_input_shape_is_used_or_refused(settings, photos, monkeypatch):
    monkeypatch.setattr(fc.zoo, "load_pretrained", lambda name, num_classes, rng: network())
    files, labels = sorted(photos.rglob("*.png")), [0, 1] * 6
    arrays = RNG.integers(0, 256, (12, 20, 20, 3), np.uint8)

    def fitted(x, shape):
        return fc.ImageClassifier(epochs=1, input_shape=shape, **settings).fit(x, labels).model_

    with pytest.raises(ValueError, match=r"input_shape=\(3, 12, 12\)"):
        fitted(arrays, (3, 12, 12))
    if settings:
        with pytest.raises(ValueError, match=r"input_shape=\(3, 12, 12\), but efficientnet_lite0 takes \(3, 16, 16\)"):
            fitted(files, (3, 12, 12))
        fitted(files, (3, 16, 16))
        fitted(arrays.reshape(12, -1), (3, 20, 20))
    else:
        assert fitted(files, (3, 12, 12)).input_shape == (3, 12, 12)


def test_a_classifier_refuses_another_head():
    classifier = fc.ImageClassifier(epochs=1).fit(RNG.standard_normal((8, 4)), [0, 1] * 4)
    classifier.model_.replace_head(3)
    for predict in (classifier.predict, classifier.predict_proba):
        with pytest.raises(ValueError, match="model_ has 3 outputs, expected 2, as classes_"):
            predict(np.zeros((2, 4)))


def test_a_part_of_nothing_is_no_crop():
    with pytest.raises(ValueError, match="Augment: crop=0.0, expected a number above 0 and at most 1"):
        fc.Augment(crop=0)
