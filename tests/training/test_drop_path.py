"""Stochastic depth: branches of random inputs are zero in training, the gradient follows, inference is unchanged."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc

SHARE = 0.4


class Block(fc.Model):
    """A residual block whose branch may be dropped, then scores."""

    def __init__(self, p=SHARE):
        self.conv = fc.Conv2d(3, 3, 3, padding=1, rng=0)
        self.drop = fc.DropPath(p)
        self.pool = fc.GlobalAvgPool2d()
        self.fc = fc.Linear(3, 4, rng=1)

    def forward(self, x):
        return self.fc(fc.functional.flatten(self.pool(x + self.drop(self.conv(x)))))


class Rows(fc.Model):
    """A branch of rows, scaled by what is kept of it."""

    def __init__(self, p=SHARE):
        self.fc = fc.Linear(6, 4, bias=False, rng=0)
        self.drop = fc.DropPath(p)

    def forward(self, x):
        return self.drop(self.fc(x))


def batch(count, *shape):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def test_a_row_is_kept_as_a_whole_and_scaled(isa):
    model, x = Rows(), batch(400, 6)
    plain = x @ model.fc.weight.T
    trainer = fc.Trainer(model, fc.SGD(0.0), "mse")
    trainer.step(x, np.zeros((400, 4)))
    factors = trainer.outputs / plain
    assert (np.abs(factors - factors[:, :1]) < 1e-2).all()
    kept = factors[:, 0] > 0.5
    np.testing.assert_allclose(factors[kept, 0], 1 / (1 - SHARE), rtol=1e-3)
    assert (trainer.outputs[~kept] == 0).all() and abs(kept.mean() - (1 - SHARE)) < 0.1
    trainer.step(x, np.zeros((400, 4)))
    assert ((trainer.outputs[:, 0] != 0) != kept).any()  # each step draws anew


def test_the_gradient_goes_through_what_was_kept(isa):
    model, x, y = Rows(), batch(16, 6), batch(16, 4)
    before = model.fc.weight.astype(np.float64)
    trainer = fc.Trainer(model, fc.SGD(1.0), "mse")
    trainer.step(x, y)
    factor = np.where((trainer.outputs != 0).all(axis=1, keepdims=True), 1 / (1 - SHARE), 0)
    gradient = (2 / y.size * factor * (factor * (x @ before.T) - y)).T @ x
    np.testing.assert_allclose(model.fc.weight, before - gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_images_of_a_block(isa, poisoned, threads):
    """Scores of each image are those of the network with the branch scaled, or without it."""
    model, x = Block(), batch(12, 3, 8, 8)
    branch = fc.functional.global_avg_pool2d(model.conv(x))[:, :, 0, 0]
    pooled = x.mean(axis=(2, 3))
    with fc.num_threads(threads):
        trainer = fc.Trainer(model, fc.SGD(0.0), seed=3)
        trainer.step(x, np.zeros(12, int))
    kept = model.fc(pooled + branch / (1 - SHARE))
    dropped = model.fc(pooled)
    is_kept = np.abs(trainer.outputs - kept).max(axis=1) < 1e-5
    is_dropped = np.abs(trainer.outputs - dropped).max(axis=1) < 1e-5
    assert (is_kept ^ is_dropped).all() and is_kept.any() and is_dropped.any()


def test_inference_and_files_are_as_without_it(tmp_path):
    model, plain, x = Block(), Block(0.0), batch(2, 3, 8, 8)
    assert np.array_equal(model(x), plain(x))
    model.input_shape = (3, 8, 8)
    for suffix in ("safetensors", "onnx"):
        model.save(tmp_path / f"model.{suffix}")
        np.testing.assert_allclose(fc.load(tmp_path / f"model.{suffix}")(x), plain(x), rtol=1e-5, atol=1e-6)


def test_a_loaded_network_still_drops(tmp_path):
    model, x = Rows(), batch(64, 6)
    model.input_shape = (6,)
    model.save(tmp_path / "rows.safetensors")
    loaded = fc.load(tmp_path / "rows.safetensors")
    trainers = [fc.Trainer(m, fc.SGD(0.1), "mse", seed=1) for m in (model, loaded)]
    for trainer in trainers:
        trainer.step(x, np.zeros((64, 4)))
    assert np.array_equal(*(trainer.outputs for trainer in trainers)) and (trainers[0].outputs == 0).any()


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"drop_path: p=1\.5, expected a probability from 0 to 1"):
        fc.DropPath(1.5)(np.zeros((1, 2)))
