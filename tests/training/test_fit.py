"""Model.fit: what it learns from, what it returns, how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image
from striped_images import network, states_equal, stripes

import fastcnn as fc
from fastcnn._progress import Pace
from fastcnn.training.data import Dataset
from fastcnn.training.features import are_kept, split_model
from fastcnn.training.trainer import Trainer

# -- what it learns from ------------------------------------------------------------------------------


def test_it_learns_and_tells():
    x, y = stripes()
    model = network()
    history = model.fit(x, y, epochs=12, validation=0.25, optimizer=fc.Adam(0.01), schedule=fc.OneCycle())
    assert history.epochs == 12 and not history.interrupted
    assert set(history) == {
        *("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate", "seconds"),
        "images_per_second",
    }
    assert history["validation_accuracy"][-1] > 0.9 and history["loss"][-1] < 0.7 * history["loss"][0]
    assert model.input_shape == (1, 8, 8) and model.evaluate(*stripes(50, seed=1)).accuracy > 0.9


def test_names_become_classes():
    x, y = stripes()
    model = network()
    model.fit(x, np.array(["column", "row"])[y], epochs=8, optimizer=fc.Adam(0.01))
    assert model.classes == ["column", "row"] and set(model.predict(x)) <= {"column", "row"}
    report = model.evaluate(x, np.array(["column", "row"], object)[y])
    assert report.accuracy == np.mean(model.predict(x) == np.array(["column", "row"])[y])
    model.fit(x, y, epochs=1)  # numbers still do
    with pytest.raises(ValueError, match="class 'diagonal', expected one of column, row"):
        model.fit(x, np.where(y, "row", "diagonal"))


def test_iterables_of_batches_give_the_same_as_their_arrays():
    x, y = stripes(64)
    history = network().fit([(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)], epochs=2, schedule=fc.Cosine())
    trainer = fc.Trainer(network(), fc.Adam())
    losses = []
    for step in range(8):
        trainer.learning_rate = 1e-3 * fc.Cosine()(step, 8, 4)
        losses.append(trainer.step(x[step % 4 * 16 :][:16], y[step % 4 * 16 :][:16]))
    assert history["loss"] == [np.mean(losses[:4]), np.mean(losses[4:])]


def test_folders_of_photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 60, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    model = fc.zoo.small_cnn(2, 3, 8)
    history = model.fit(tmp_path, epochs=6, batch_size=8, validation=0.25, augment=fc.Augment(mixup=0.2))
    assert model.classes == ["blue", "red"] and model.preprocess.size == (8, 8)
    assert history["validation_accuracy"][-1] == 1
    report = model.evaluate(str(tmp_path))
    assert report.count == 24 and report.accuracy == 1
    paths = sorted((tmp_path / "red").iterdir())
    assert model.evaluate(paths, ["red"] * 12).accuracy == 1
    assert model.classify(paths[0], top=1)[0].label == "red"
    model.save(tmp_path / "model.safetensors")
    assert fc.load(tmp_path / "model.safetensors").classify(paths[0]) == model.classify(paths[0])


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_other_losses(loss):
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.float32)
    model = fc.Sequential(fc.Linear(3, 1, rng=0))
    history = model.fit(x, y, epochs=20, loss=loss, optimizer=fc.SGD(0.3), validation=(x, y))
    assert ("accuracy" in history) == (loss != "mse") and history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["validation_loss"][-1] == pytest.approx(history["loss"][-1], rel=0.2)


def test_results_do_not_depend_on_threads():
    x, y = stripes(50)
    states = []
    for threads, workers in ((1, 0), (2, 1), (3, 4)):
        model = network()
        with fc.num_threads(threads):
            model.fit(x, y, epochs=2, augment=fc.Augment(flip=False, mixup=0.3), workers=workers, seed=4)
        states.append(model.state_dict())
    assert states_equal(states[0], states[1]) and states_equal(states[0], states[2])
    model = network()
    model.fit(x, y, epochs=2, augment=fc.Augment(flip=False, mixup=0.3), seed=5)
    assert not states_equal(states[0], model.state_dict())


# -- how it ends --------------------------------------------------------------------------------------


def test_patience_and_the_best_weights():
    x, y = stripes(40)
    noise = np.random.default_rng(0).integers(0, 2, 40)  # nothing to learn: validation soon gets worse
    model = network()
    seen = []
    history = model.fit(
        x,
        y,
        epochs=200,
        validation=(x, noise),
        patience=3,
        keep_best=True,
        optimizer=fc.Adam(0.02),
        callbacks=[lambda run: seen.append((run.epoch, run.model.state_dict()))],
    )
    best = history.best()
    assert history.epochs == best + 4 < 200 and [epoch for epoch, _ in seen] == list(range(1, history.epochs + 1))
    assert states_equal(model.state_dict(), seen[best][1])
    assert not states_equal(model.state_dict(), seen[-1][1])
    assert model.evaluate(x, noise).loss == pytest.approx(min(history["validation_loss"]), rel=1e-5)


def test_callbacks_can_stop_and_errors_leave_the_model_up_to_date():
    x, y = stripes(40)
    assert network().fit(x, y, epochs=5, callbacks=[lambda run: run.stop()]).epochs == 1
    model = network()
    before = model.state_dict()

    def fail(run):
        raise RuntimeError("the callback's own")

    with pytest.raises(RuntimeError, match="the callback's own"):
        model.fit(x, y, callbacks=[fail])
    assert not states_equal(before, model.state_dict())


def press_ctrl_c_after_the_first_step(monkeypatch, delay):
    """Interrupt the next training `delay` seconds after its first step; the list tells when that is due."""
    due, step = [], Trainer.step

    def first_step(trainer, x, y, **settings):
        monkeypatch.setattr(Trainer, "step", step)
        loss = step(trainer, x, y, **settings)
        due.append(time.perf_counter() + delay)
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        return loss

    monkeypatch.setattr(Trainer, "step", first_step)
    return due


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("delay", [0.05, 0.2, 0.5])
def test_ctrl_c_ends_cleanly_and_keeps_the_model(delay, workers, tmp_path, monkeypatch):
    x, y = stripes(400, size=16)
    model = fc.Sequential(fc.Conv2d(1, 8, 3), fc.ReLU(), fc.Flatten(), fc.Linear(8 * 14 * 14, 2))
    before, handler = model.state_dict(), signal.getsignal(signal.SIGINT)
    network().fit(*stripes(10), epochs=1)  # imports are done
    due = press_ctrl_c_after_the_first_step(monkeypatch, delay)
    with pytest.warns(fc.FastcnnWarning, match="interrupted in epoch") as warned:
        history = model.fit(
            x, y, epochs=10**6, augment=fc.Augment(), workers=workers, checkpoint=tmp_path / "run.safetensors"
        )
    assert time.perf_counter() < due[0] + 30  # a hang; benchmarks/bench_interrupt.py measures how soon
    assert warned[0].filename == __file__
    assert history.interrupted and signal.getsignal(signal.SIGINT) is handler
    assert not states_equal(before, model.state_dict()) and model.predict(x).shape == (400,)
    again = fc.Sequential(fc.Conv2d(1, 8, 3), fc.ReLU(), fc.Flatten(), fc.Linear(8 * 14 * 14, 2))
    again.fit(x, y, epochs=history.epochs, checkpoint=tmp_path / "run.safetensors", resume=True, augment=fc.Augment())
    assert history.epochs == 0 or states_equal(again.state_dict(), model.state_dict())
    assert not [t for t in threading.enumerate() if t.name.startswith("fastcnn-data")]


def test_ctrl_c_while_features_are_computed(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastcnn.training.begin.features_of", interrupted)
    with pytest.warns(fc.FastcnnWarning, match="interrupted in epoch 1 of 3") as warned:
        history = frozen_network().fit(*stripes(20), epochs=3)
    assert history.interrupted and history.epochs == 0 and warned[0].filename == __file__


def test_augmenting_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"inputs are of shape \(3,\), expected images"):
        fc.Sequential(fc.Linear(3, 2)).fit(np.zeros((4, 3)), [0, 1, 0, 1], augment=fc.Augment())


def test_progress_on_stderr(capsys):
    x, y = stripes(40)
    network().fit(x, y, epochs=2, validation=0.5, progress=True)
    output = capsys.readouterr()
    assert output.out == "" and "epoch 2/2" in output.err and "validation_accuracy=" in output.err
    network().fit(x, y, epochs=3)  # no terminal: lines
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(" loss=" in line and " left=" in line for line in lines) and lines[-1].endswith(" left=0:00")
    network().fit(x, y, epochs=3, progress=False)
    assert capsys.readouterr() == ("", "")


def test_time_left_is_that_of_the_whole_run(monkeypatch, tmp_path):
    """A resumed run counts what it has done itself."""
    x, y = stripes(40)
    made = []
    monkeypatch.setattr(
        "fastcnn.training.loop.Pace", lambda total, done: made.append((total, done)) or Pace(total, done)
    )
    network().fit(x, y, epochs=2, checkpoint=tmp_path / "run")
    network().fit(x, y, epochs=6, checkpoint=tmp_path / "run", resume=True)
    assert made == [(2, 0), (6, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "fit: epochs=-1"),
        ({"batch_size": 0}, "fit: batch_size=0"),
        ({"seed": 1.5}, "fit: seed=1.5"),
        ({"patience": 0}, "fit: patience=0"),
        ({"workers": -1}, "fit: workers=-1"),
        ({"schedule": "cosine"}, "fit: schedule='cosine'"),
        ({"augment": True}, "fit: augment=True"),
        ({"callbacks": [1]}, "fit: callbacks has 1"),
        ({"resume": True}, "no checkpoint to resume from"),
        ({"checkpoint_steps": 3}, "checkpoint_steps=3 without checkpoint, expected a file"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds=-1, expected a number >= 0"),
        ({"validation": 1.5}, "validation=1.5"),
        ({"validation": 3}, "validation=3.0"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"optimizer": "adam"}, "optimizer='adam'"),
        ({"y": [0, 1]}, r"len\(y\)=2, expected 40"),
        ({"y": None}, "fit: y is missing"),
        ({"y": np.full(40, 2)}, "y has values from 2 to 2, expected 0 to 1"),
        ({"y": np.full(40, -1)}, "y has values from -1 to -1"),
        ({"y": np.zeros((40, 3))}, r"y.shape=\(40, 3\), expected \(N, 2\)"),
        ({"y": np.array(list("abc") * 14)[:40]}, "has 2 outputs, expected 3, one for each class: a, b, c"),
        ({"x": [(np.zeros((2, 1, 8, 8)), [0, 1])], "y": None, "augment": fc.Augment()}, "an iterable makes its"),
        ({"x": "nowhere"}, "nowhere|neither preprocess"),
        ({"x": np.zeros((40, 8, 8), complex)}, "x.dtype=complex"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    x, y = stripes(40)
    model = network()
    if isinstance(arguments.get("x"), str):
        arguments = {**arguments, "y": None}
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        model.fit(**{"x": x, "y": y, **arguments})
    assert model.classes is None


# -- frozen parts -------------------------------------------------------------------------------------


class Body(fc.layers.Layer):
    """Counts how often it computes."""

    def __init__(self):
        self.conv = fc.Conv2d(1, 4, 3, rng=0)
        self.norm = fc.BatchNorm2d(4)

    def forward(self, x):
        return fc.functional.relu(self.norm(self.conv(x)))


def frozen_network():
    model = fc.Sequential(
        {
            "body": Body(),
            "flatten": fc.Flatten(),
            "drop": fc.Dropout(0.0),
            "hidden": fc.Linear(144, 8, rng=1),
            "relu": fc.ReLU(),
            "head": fc.Linear(8, 2, rng=2),
        }
    )
    model[0].freeze()
    return model


def test_features_of_a_frozen_part_are_reused_with_the_same_result(monkeypatch):
    x, y = stripes(60)
    model = frozen_network()
    body, head = split_model(model, (1, 8, 8))
    np.testing.assert_allclose(head(body(x)), model(x), rtol=1e-5, atol=1e-6)
    assert list(head.state_dict()) == ["hidden.weight", "hidden.bias", "head.weight", "head.bias"]
    before = model.state_dict()
    history = model.fit(x, y, epochs=3, validation=0.2)
    after = model.state_dict()
    assert [name for name in before if not np.array_equal(before[name], after[name])] == list(head.state_dict())
    monkeypatch.setattr("fastcnn.training.begin.split_model", lambda model, shape: None)
    whole = frozen_network()
    expected = whole.fit(x, y, epochs=3, validation=0.2)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["validation_loss"], expected["validation_loss"], rtol=1e-5)
    assert np.array_equal(whole.state_dict()["body.norm.running_mean"], before["body.norm.running_mean"])


def test_features_that_are_larger_than_the_inputs_are_not_kept(monkeypatch):
    data = Dataset.of(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10) % 2)
    body, _ = split_model(frozen_network(), (1, 8, 8))
    assert are_kept(body, data)  # of a few inputs they are, whatever their size
    monkeypatch.setattr("fastcnn.training.features._ALWAYS_KEPT", 0)
    assert not are_kept(body, data)
    model = fc.Sequential(fc.Flatten(), fc.Linear(64, 16, rng=0), fc.Linear(16, 2, rng=1))
    model[1].freeze()
    body, _ = split_model(model, (1, 8, 8))
    assert are_kept(body, data)
    x, y = stripes(20)
    states = []
    for least in (0, 1 << 20):
        monkeypatch.setattr("fastcnn.training.features._ALWAYS_KEPT", least)
        model = frozen_network()
        model.fit(x, y, epochs=2)
        states.append(model.state_dict())
    for name, array in states[0].items():
        np.testing.assert_allclose(array, states[1][name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_cannot_be_cut_is_trained_whole():
    assert split_model(network(), (1, 8, 8)) is None  # nothing is frozen
    model = network()
    model.scaling = [0.5], [0.2]
    assert split_model(model, (1, 8, 8)) is None  # but the scaling, which is no work
    model = frozen_network()
    model.freeze()
    assert split_model(model, (1, 8, 8)) is None  # all is
    model = network()
    model[5].freeze()
    assert split_model(model, (1, 8, 8)) is None  # the first layers learn
