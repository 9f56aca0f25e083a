"""Checkpoints: a kill at any moment leaves a complete one, and the run that goes on from it ends with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.training import loop
from fastcnn.training.checkpoints import Checkpoint, read_checkpoint, write_checkpoint

EPOCHS, SIZE = 3, 24


def data():
    rng = np.random.default_rng(7)
    return rng.random((SIZE, 1, 8, 8), np.float32), rng.integers(0, 3, SIZE)


def network():
    with fc.layers.seeded(1):
        return fc.Sequential(
            fc.Conv2d(1, 4, 3, bias=False),
            fc.BatchNorm2d(4),
            fc.ReLU(),
            fc.Flatten(),
            fc.Dropout(0.3),
            fc.Linear(144, 3),
        )


def fit(path, optimizer=None, epochs=EPOCHS, **settings):
    model = network()
    history = model.fit(
        *data(),
        epochs=epochs,
        batch_size=5,
        validation=0.2,
        augment=fc.Augment(mixup=0.2),
        optimizer=optimizer or fc.Adam(0.01),
        schedule=fc.Warmup(1, fc.Cosine()),
        keep_best=True,
        seed=3,
        checkpoint=path,
        checkpoint_steps=1,
        **settings,
    )
    return model.state_dict(), {k: v for k, v in history.items() if "second" not in k}


def assert_same(a, b):
    assert a[0].keys() == b[0].keys() and a[1] == b[1]
    for name in a[0]:
        np.testing.assert_array_equal(a[0][name], b[0][name], err_msg=name)


class Cut(Exception):
    pass


def steps_in(path):
    run = read_checkpoint(path).run
    return run["epoch"], run["step"]


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_cut_and_resumed_anywhere_gives_the_same_bits(kind, tmp_path, monkeypatch, budget):
    optimizer = {"adam": fc.Adam(0.01), "sgd": fc.SGD(0.05, momentum=0.9, nesterov=True)}[kind]
    epochs = budget(EPOCHS, 11)
    expected = fit(tmp_path / "whole", optimizer, epochs)
    rng = np.random.default_rng(0)
    writes = epochs * 5  # four steps and an end in each epoch
    for cut in rng.permutation(np.arange(1, writes))[: budget(5, 50)].tolist():
        path, count = tmp_path / f"cut{cut}", 0

        def write(where, checkpoint, cut=cut):
            nonlocal count
            if count == cut:
                raise Cut
            count += 1
            write_checkpoint(where, checkpoint)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "write_checkpoint", write)
            with pytest.raises(Cut):
                fit(path, optimizer, epochs)
        assert steps_in(path) in [(epoch, step) for epoch in range(epochs + 1) for step in range(5)]
        with fc.num_threads(1 + cut % 3):
            assert_same(fit(path, optimizer, epochs, resume=True, workers=cut % 2), expected)
        assert_same(fit(path, optimizer, epochs, resume=True), expected)  # done already: nothing more to learn


@pytest.mark.parametrize(("seconds", "written"), [(0.0, [1, 2, 3, 4]), (1e6, [1, 4])])
def test_epochs_that_are_short_share_a_checkpoint(seconds, written, tmp_path, monkeypatch):
    """The first and the last are always there, and who goes on from either has the same bits."""
    kept = []

    def write(path, checkpoint):
        kept.append(checkpoint.run["epoch"])
        write_checkpoint(path, checkpoint)

    monkeypatch.setattr(loop, "write_checkpoint", write)
    expected = network().fit(*data(), epochs=4)["loss"]
    history = network().fit(*data(), epochs=4, checkpoint=tmp_path / "run", checkpoint_seconds=seconds)
    assert kept == written and history["loss"] == expected
    first = tmp_path / "first"
    network().fit(*data(), epochs=2, checkpoint=first, checkpoint_seconds=seconds)
    again = network().fit(*data(), epochs=4, checkpoint=first, checkpoint_seconds=seconds, resume=True)
    assert again["loss"] == expected


def test_more_epochs_can_be_added(tmp_path):
    model = network()
    model.fit(*data(), epochs=2, checkpoint=tmp_path / "run")
    model = network()
    history = model.fit(*data(), epochs=4, checkpoint=tmp_path / "run", resume=True)
    whole = network()
    assert history.epochs == 4 and whole.fit(*data(), epochs=4)["loss"] == history["loss"]


SCRIPT = """
import sys; sys.path.insert(0, sys.argv[2])
import hashlib, test_checkpoints as t
state, history = t.fit(sys.argv[1], epochs=30, resume=True)
print(hashlib.sha256(b"".join(a.tobytes() for a in state.values())).hexdigest(), history["loss"][-1])
"""


def start(path):
    command = [sys.executable, "-c", SCRIPT, str(path), os.path.dirname(__file__)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_at_random_times(tmp_path, budget):
    expected, _ = start(tmp_path / "whole").communicate()
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    path, kills, run = tmp_path / "run", 0, 0
    while kills < budget(5, 100):
        process, before = start(path), path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and (path.stat().st_mtime_ns if path.exists() else 0) == before:
            time.sleep(0.001)  # until it has written a checkpoint of its own
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert steps_in(path) >= (0, 1)  # the old one or the new one, and complete
        if process.returncode == 0:  # it was faster: once more from the start
            run += 1
            path = tmp_path / f"run{run}"
    final, _ = start(path).communicate()
    assert final == expected != ""
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_place_that_cannot_be_written_is_told_before_the_first_step(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, told in (("ghost/run", "there is no folder"), ("folder", "a folder, expected the name of a file")):
        model = network()
        before = model.state_dict()
        with pytest.raises(OSError, match=f"fit: checkpoint {tmp_path / name}: {told}"):
            model.fit(*data(), epochs=1, checkpoint=tmp_path / name)
        assert all(model.state_dict()[key] is array for key, array in before.items())
    assert os.listdir(tmp_path) == ["folder"]


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run"
    write_checkpoint(path, Checkpoint({"w": np.ones(3)}, {}))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, Checkpoint({"w": np.zeros(3)}, {}))
    assert read_checkpoint(path).model["w"].all() and os.listdir(tmp_path) == ["run"]


def test_other_settings_and_files_are_refused(tmp_path):
    path = tmp_path / "run"
    fit(path)
    for name, value, was in (("seed", 4, 3), ("batch_size", 6, 5)):
        settings = {"epochs": 3, "batch_size": 5, "seed": 3, "validation": 0.2, name: value}
        with pytest.raises(ValueError, match=f"fit: {name}={value}, expected {was} as in .*run"):
            network().fit(*data(), checkpoint=path, resume=True, **settings)
    with pytest.raises(ValueError, match="fit: inputs=24, expected 19"):
        network().fit(*data(), batch_size=5, seed=3, checkpoint=path, resume=True)
    with pytest.raises(
        ValueError, match="fit: network=Sequential of 2 nodes and 195 numbers, .* expected Sequential of"
    ):
        model = fc.Sequential(fc.Flatten(), fc.Linear(64, 3))
        model.fit(*data(), batch_size=5, seed=3, validation=0.2, checkpoint=path, resume=True)
    other = network()
    other.input_shape = (1, 8, 8)
    other.save(path)
    with pytest.raises(fc.ModelLoadError, match="expected .*fastcnn checkpoint"):
        network().fit(*data(), checkpoint=path, resume=True)
    path.write_bytes(b"")
    with pytest.raises(fc.ModelLoadError):
        network().fit(*data(), checkpoint=path, resume=True)
