"""A loss that is not finite: the message tells why, and the last good weights stand, in the model and on disk."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from striped_images import network, states_equal, stripes

import fastcnn as fc
from fastcnn.io.weights import read_safetensors
from fastcnn.training.finite import LossNotFinite, not_finite


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (
            lambda x: np.where(x > 1, np.nan, x),
            {},
            r"\d+ of the 32 inputs of the batch have values that are not finite",
        ),
        (lambda x: x, {"loss": fc.CrossEntropy(class_weights=[0, 0])}, "class_weights are 0 for all classes of the"),
        (lambda x: x, {"optimizer": fc.SGD(1e30)}, r"learning_rate=1e\+30 is too high"),
        (lambda x: 1e20 * x, {"optimizer": fc.SGD(1e3)}, r"inputs reach .*e\+20, expected about 1; or learning_rate"),
    ],
)
def test_the_cause_is_told_and_the_model_is_as_before(change, settings, message):
    x, y = stripes(40)
    model = network()
    before = model.state_dict()
    with pytest.raises(FloatingPointError, match=f"in epoch 1.*{message}|after epoch 1.*{message}") as caught:
        model.fit(change(x), y, **settings)
    assert "the model is as it was before" in str(caught.value) and states_equal(model.state_dict(), before)


def test_weights_that_were_bad_before_are_named():
    model = network()
    name, array = next(iter(model.state_dict().items()))
    model.load_state_dict({name: np.full_like(array, np.nan)}, strict=False)
    with pytest.raises(FloatingPointError, match=f"weights were not finite before: {name}"):
        model.fit(*stripes(40))


def diverging(after):
    """A schedule that multiplies the rate by 1e41 after a number of epochs."""
    return lambda step, steps, in_epoch: 1.0 if step < after * in_epoch + 1 else 1e41


@pytest.mark.parametrize("keep_best", [True, False])
def test_the_last_good_epoch_stands_and_its_checkpoint(keep_best, tmp_path):
    x, y = stripes(64)
    states = []
    model, file = network(), tmp_path / "run"
    with pytest.raises(LossNotFinite, match="the model is as it was after epoch 2") as caught:
        model.fit(
            x,
            y,
            epochs=5,
            batch_size=16,
            schedule=diverging(2),
            keep_best=keep_best,
            checkpoint=file,
            checkpoint_steps=1,
            callbacks=[lambda run: states.append(run.model.state_dict())],
        )
    assert len(states) == caught.value.history.epochs == 2 and states_equal(model.state_dict(), states[1])
    again = network()
    with pytest.raises(LossNotFinite):
        again.fit(x, y, epochs=5, batch_size=16, schedule=diverging(2), checkpoint=file, resume=True)
    assert all(np.isfinite(array).all() for array in again.state_dict().values())


def test_reused_features_change_nothing(tmp_path):
    x, y = stripes(64)
    model = network()
    model[0].freeze()
    states = []
    with pytest.raises(LossNotFinite):
        model.fit(x, y, epochs=4, schedule=diverging(1), callbacks=[lambda run: states.append(run.model.state_dict())])
    assert states_equal(model.state_dict(), states[-1])


def test_ctrl_c_does_not_keep_weights_that_are_not_finite(tmp_path, monkeypatch):
    """The step that spoils them has a good loss, and Ctrl-C comes before the next one."""
    x, y = stripes(64)
    model, step, spoilt = network(), fc.Trainer.step, []

    def stepped(trainer, *batch, **settings):
        loss = step(trainer, *batch, **settings)
        if trainer.steps == 6:
            trainer.sync()
            spoilt.append(not_finite(model.state_dict()))
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    monkeypatch.setattr(fc.Trainer, "step", stepped)
    with pytest.warns(fc.FastcnnWarning, match="interrupted"):
        model.fit(
            1000 * x,
            y,
            epochs=5,
            batch_size=16,
            optimizer=fc.SGD(1.0),
            schedule=lambda step, steps, in_epoch: 3e38 if step == 5 else 1e-6,
            checkpoint=tmp_path / "run",
        )
    assert spoilt[0] and not not_finite(model.state_dict())
    assert not not_finite(read_safetensors(tmp_path / "run")[0])


def test_a_validation_loss_that_is_not_finite_ends_the_run():
    """The step that makes weights too large may be the last of an epoch, whose own loss is good."""
    x, y = stripes(16)
    model = network()
    before = model.state_dict()
    with pytest.raises(LossNotFinite, match=r"validation loss is \w+ after epoch 1: learning_rate=1e\+25") as caught:
        model.fit(x, y, validation=(x, y), batch_size=16, optimizer=fc.SGD(1e25), keep_best=True)
    assert caught.value.history.epochs == 0 and states_equal(model.state_dict(), before)
    with pytest.raises(LossNotFinite, match="validation loss .* 1 of the 4 inputs of the batch have"):
        model.fit(x, y, validation=(np.where(np.arange(4)[:, None, None, None] == 1, np.nan, x[:4]), y[:4]))
