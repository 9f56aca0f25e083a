"""`fastcnn train --log` and `--stop-file`: what programs read that watch a training, and how they end it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from photo_folders import CLASSES, make_photos, spoil, train

import fastcnn
from fastcnn._progress import watched
from fastcnn.cli import main
from fastcnn.cli._log import logging_to
from fastcnn.cli._stop import stopping_at
from fastcnn.training.interrupt import Interrupt


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    fastcnn.set_num_threads(None)


def events(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def of(kind, lines):
    return [line for line in lines if line["event"] == kind]


def test_the_log_tells_what_happens(tmp_path, capsys):
    folder, log = make_photos(tmp_path / "photos", 16), tmp_path / "log.jsonl"
    spoil(folder, "left side/3.jpg")
    assert main(train(folder, tmp_path / "m.safetensors", "--log", str(log), "--json")) == 0
    lines, told = events(log), json.loads(capsys.readouterr().out)
    (photos,) = of("photos", lines)
    assert photos["classes"] == list(CLASSES)
    good = {str(path) for path in folder.rglob("*.jpg")} - {str(folder / "left side" / "3.jpg")}
    assert set(photos["training"]) | set(photos["validation"]) == good
    assert len(photos["training"]) + len(photos["validation"]) == len(good)
    assert {line["title"] for line in of("walk", lines)} >= {"examining"}
    assert of("walk", lines)[0]["count"] == 32
    (start,) = of("start", lines)
    assert (start["epoch"], start["epochs"], start["steps"]) == (0, 2, -(-len(photos["training"]) // 8))
    epochs = of("epoch", lines)
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert [line["validation_accuracy"] for line in epochs] == told["history"]["validation_accuracy"]
    (step, *_) = of("step", lines)
    assert step["loss"] > 0 and step["images_per_second"] > 0 and step["seconds_left"] >= 0
    (end,) = of("end", lines)
    assert end == lines[-1] and end["report"] == told["report"] and not end["interrupted"]


def test_runs_that_go_on_append(tmp_path):
    folder, log = make_photos(tmp_path / "photos", 8), tmp_path / "log.jsonl"
    more = ["--log", str(log), "--checkpoint", str(tmp_path / "run"), "--resume"]
    for _ in range(2):
        assert main(train(folder, tmp_path / "m.safetensors", *more)) == 0
    lines = events(log)
    assert [line["epoch"] for line in of("start", lines)] == [0, 2]
    assert of("start", lines)[1]["history"]["loss"] == [line["loss"] for line in of("epoch", lines)]
    assert len(of("end", lines)) == 2


@pytest.mark.parametrize("when", ["before", "examining", "epoch 1/2", "never"])
def test_a_file_ends_the_training_wherever_it_is(tmp_path, capsys, when):
    folder, stop = make_photos(tmp_path / "photos", 16), tmp_path / "stop"
    output, log = tmp_path / "m.safetensors", tmp_path / "log.jsonl"
    if when == "before":
        stop.touch()
    with watched(lambda title, done, count: stop.touch() if title == when else None):
        code = main(train(folder, output, "--log", str(log), "--stop-file", str(stop), "--json"))
    assert code == (0 if when == "never" else 130) and output.exists() == (when == "never")
    assert capsys.readouterr().err == "" or when.startswith("epoch")
    if when.startswith("epoch"):
        (end,) = of("end", events(log))  # what was learned is saved, and examined: the file is one Ctrl-C
        assert end["interrupted"] and fastcnn.load(end["model"]).classes == list(CLASSES)


def test_a_file_stops_a_step_that_takes_long(tmp_path):
    """The network itself looks for it, also where the first look was before it began."""
    stop, x = tmp_path / "stop", np.zeros((1, 1, 3000, 3000), np.float32)
    with pytest.raises(KeyboardInterrupt), stopping_at(str(stop)), Interrupt():
        threading.Timer(0.1, stop.touch).start()
        fastcnn.functional.avg_pool2d(x, 2001, 1, 1000)  # for minutes


def test_a_log_that_cannot_be_written_is_told_before_training(tmp_path, capsys):
    folder = make_photos(tmp_path / "photos", 4)
    assert main(train(folder, tmp_path / "m.safetensors", "--log", str(tmp_path / "none" / "log"))) == 2
    assert "--log" in capsys.readouterr().err


def test_a_log_that_is_full_stops_nothing():
    with logging_to("/dev/full") as log:
        log.write("start")
