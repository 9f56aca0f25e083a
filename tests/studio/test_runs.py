"""Runs: trainings in processes of their own, which outlive the server, are stopped, and go on."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from photo_folders import BROKEN, make_photos

import fastcnn
from fastcnn._web import Refused
from fastcnn.studio.examined import photos_of
from fastcnn.studio.listing import listing_of
from fastcnn.studio.run_log import RunLog
from fastcnn.studio.runs import Runs

LONG = 300  # seconds after which something hangs


def until(what):
    """Wait for it."""
    end = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def root(tmp_path):
    folder = make_photos(tmp_path / "photos", 8, ("cat", "dog"))
    (folder / ".fastcnn" / "runs").mkdir(parents=True)
    return folder


def start(root, runs=None, **settings):
    runs = runs or Runs(root / ".fastcnn" / "runs")
    return runs.start(root, listing_of(root), {"network": "small_cnn", "epochs": 2, **settings})


def test_a_run_trains_as_the_command_does(root):
    run = start(root, name="First try")
    assert run.summary()["status"] == "training" and run.is_alive()
    until(lambda: not run.is_alive())
    summary = run.summary()
    assert summary["status"] == "done", summary["message"]
    assert (summary["name"], summary["epoch"], summary["epochs"]) == ("First try", 2, 2)
    assert len(summary["history"]["validation_accuracy"]) == 2
    assert 0 <= summary["accuracy"] <= 1 and summary["learns"] + summary["examines"] == 16
    assert fastcnn.load(run.model_path).classes == ["cat", "dog"]
    names = photos_of(run)
    assert sorted(name for name, _ in names) == sorted(f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(8))
    assert sum(kept for _, kept in names) == summary["examines"]


def test_photos_may_move_while_a_run_learns(root):
    run = start(root)
    for path in (root / "cat").iterdir():
        os.rename(path, root / "dog" / f"moved-{path.name}")
    until(lambda: not run.is_alive())
    assert run.summary()["status"] == "done"
    assert len(list((run.folder / "photos" / "cat").iterdir())) == 8
    assert os.stat(run.folder / "photos" / "dog" / "0.jpg").st_nlink == 2  # no copy


def test_another_server_finds_the_run_that_goes_on(root):
    first = start(root, epochs=2000)
    until(lambda: first.summary()["epoch"] > 0)
    again = Runs(root / ".fastcnn" / "runs")["001"]  # as after a kill of the first server
    assert again.is_alive() and again.summary()["status"] == "training"
    with pytest.raises(Refused, match="training already"):
        again.begin()
    again.stop()
    first._process.wait(LONG)
    assert again.summary()["status"] == "stopped"
    assert again.model_path.name == "model-interrupted.safetensors"


def test_a_killed_training_goes_on_from_its_checkpoint(root):
    run = start(root, epochs=2000)
    until(lambda: run.summary()["epoch"] >= 2)
    os.kill(run._process.pid, signal.SIGKILL)
    until(lambda: not run.is_alive())
    before = run.summary()
    assert before["status"] == "stopped" and before["accuracy"] is None
    run.begin()
    until(lambda: run.summary()["epoch"] > before["epoch"])
    history = run.summary()["history"]["loss"]
    assert history[:2] == before["history"]["loss"][:2]
    run.stop()
    until(lambda: not run.is_alive())
    assert run.summary()["accuracy"] is not None
    with pytest.raises(Refused, match="not training"):
        run.stop()


def test_a_run_that_is_stopped_at_once_is_no_failure(root):
    run = start(root, epochs=2000)
    run.stop()
    until(lambda: not run.is_alive())
    assert run.summary()["status"] == "stopped" and run.summary()["message"] == ""


DEAF = """
import pathlib, time
try:
    if pathlib.Path("run.json").exists():
        pathlib.Path("ready").touch()
        while True:
            time.sleep(0.01)
except KeyboardInterrupt:
    pass
"""


def test_a_stop_is_heard_by_a_process_that_has_not_begun_to_listen(root, tmp_path, monkeypatch):
    """The interpreter starts, and drops Ctrl-C, as it does in the callbacks of an import."""
    run = start(root, epochs=2000)
    until(lambda: run.summary()["epoch"] > 0)
    run.stop()
    until(lambda: not run.is_alive())
    (tmp_path / "sitecustomize.py").write_text(DEAF)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    run.begin()
    until((run.folder / "ready").exists)
    for _ in range(2):  # the second one is a signal, after which the process goes on
        run.stop()
        with pytest.raises(Refused, match="stopping still"):
            run.begin()
    until(lambda: not run.is_alive())
    assert run.summary()["status"] == "stopped" and run.summary()["step"] == {}
    monkeypatch.undo()
    run.begin()  # what was asked of the last process is not of this one
    before = run.summary()["epoch"]
    until(lambda: run.summary()["epoch"] > before)
    run.stop()
    until(lambda: not run.is_alive())


def test_a_stop_is_heard_where_signals_are_not(root, monkeypatch):
    """A job in the background starts with Ctrl-C ignored, and the process of a server that was killed is not known."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = start(root, epochs=2000)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: run.summary()["epoch"] > 0)
    (run.folder / "pid").unlink()
    Runs(root / ".fastcnn" / "runs")["001"].stop()
    run._process.wait(LONG)
    assert run.summary()["status"] == "stopped" and run.summary()["accuracy"] is not None


def test_a_run_that_is_taken_away_does_not_go_on(root, tmp_path):
    runs = Runs(root / ".fastcnn" / "runs")
    run = start(root, runs, epochs=2000)
    run.stop()
    until(lambda: not run.is_alive())
    runs.remove("001", tmp_path)
    with pytest.raises(Refused) as refusal:  # of another window that has found it just before
        run.begin()
    assert refusal.value.status == 404


def test_a_failure_is_told_in_the_commands_words(root):
    for path in root.rglob("*.jpg"):
        path.write_bytes(BROKEN)
    run = start(root)
    until(lambda: not run.is_alive())
    summary = run.summary()
    assert summary["status"] == "failed"
    assert "cannot be read" in summary["message"] and "Traceback" not in summary["message"]
    assert run.model_path is None


@pytest.mark.parametrize(
    "settings",
    [{"network": "resnet99"}, {"network": "../x"}, {"network": ["small_cnn"]}, {"epochs": 0}, {"epochs": "3"},
     {"epochs": True}, {"epochs": 10**9}, {"name": "../x"}],
)  # fmt: skip
def test_settings_are_checked_before_anything_begins(root, settings):
    with pytest.raises(Refused):
        start(root, **settings)
    assert list((root / ".fastcnn" / "runs").iterdir()) == [] or "name" in settings


def test_two_classes_are_needed(tmp_path):
    root = make_photos(tmp_path / "photos", 3, ("cat",))
    (root / ".fastcnn" / "runs").mkdir(parents=True)
    with pytest.raises(Refused, match="two classes"):
        start(root)


def test_runs_are_taken_away_and_numbers_not_used_twice(root, tmp_path):
    runs = Runs(root / ".fastcnn" / "runs")
    run = start(root, runs, epochs=2000)
    with pytest.raises(Refused, match="stop it first"):
        runs.remove("001", tmp_path)
    until(lambda: run.summary()["epoch"] > 0)
    run.stop()
    until(lambda: not run.is_alive())
    (root / ".fastcnn" / "runs" / "004").mkdir()  # half made when a kill came
    runs.remove("001", tmp_path)
    with pytest.raises(Refused) as refusal:
        runs["001"]
    assert refusal.value.status == 404
    new = start(root, Runs(root / ".fastcnn" / "runs"))
    assert new.id == "005"
    new.stop()
    until(lambda: not new.is_alive())


def test_a_log_that_is_cut_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "log"
    log = RunLog(path)
    log.read()
    path.write_text(
        '{"event": "start", "epoch": 0, "epochs": 3, "steps": 2, "history": {}}\nnonsense\n[1]\n{"event": "ep'
    )
    log.read()
    assert (log.epochs, log.epoch) == (3, 0)
    with path.open("a") as file:
        file.write('och", "epoch": 1, "epochs": 3, "loss": 0.5}\n')
    log.read()
    assert log.epoch == 1 and log.history == {"loss": [0.5]}
    assert np.isfinite(log.history["loss"]).all()
