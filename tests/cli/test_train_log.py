"""`fastcnn train --log`: what programs that watch a training read."""

from __future__ import annotations

import json

import pytest
from photo_folders import CLASSES, make_photos, spoil, train

import fastcnn
from fastcnn.cli import main
from fastcnn.cli._log import logging_to


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


def test_a_log_that_cannot_be_written_is_told_before_training(tmp_path, capsys):
    folder = make_photos(tmp_path / "photos", 4)
    assert main(train(folder, tmp_path / "m.safetensors", "--log", str(tmp_path / "none" / "log"))) == 2
    assert "--log" in capsys.readouterr().err


def test_a_log_that_is_full_stops_nothing():
    with logging_to("/dev/full") as log:
        log.write("start")
