"""What can fail is tried before training: no epoch is lost to a name, a format, a full disk or a missing package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from photo_folders import make_photos, train

import fastcnn
from fastcnn.cli import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), 6)


@pytest.fixture
def untrained(monkeypatch):
    """Fails where anything is learned."""
    monkeypatch.setattr("fastcnn.model.Model.fit", lambda *_, **__: pytest.fail("training has begun"))


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "."], "-o .: a folder, expected the name of a file"),
        (["-o", "x" * 300], "File name too long"),
        (["-o", "m", "--checkpoint", "."], "--checkpoint .: a folder"),
        (["-o", "m", "--checkpoint", "ghost/run"], "there is no folder ghost"),
        (["-o", "m", "--plot", "confusion.xyz"], "confusion.xyz: unknown format, expected a name that ends in"),
        (["-o", "m", "--plot", "."], "--plot ."),
    ],
)
def test_files_that_cannot_be_written(arguments, message, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(train(photos, *arguments[1:])) == 2
    output = capsys.readouterr()
    assert message in output.err and output.out == "" and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("untrained")
def test_a_folder_that_cannot_be_written_to(photos, capsys, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert main(train(photos, tmp_path / "m")) == 2
    assert "m: cannot be written: Permission denied" in capsys.readouterr().err


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("package", "arguments"), [("onnx", ["m.onnx"]), ("matplotlib.figure", ["m", "--plot", "c.png"])]
)
def test_packages_that_are_missing(package, arguments, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(train(photos, *arguments)) == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.usefixtures("untrained")
def test_a_disk_without_room(photos, capsys, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    assert main(train(photos, tmp_path / "m", "--checkpoint", str(tmp_path / "run"))) == 2
    message = capsys.readouterr().err
    assert "0.0 MB are free on this disk, expected" in message and f"for {tmp_path}/m and {tmp_path}/run" in message


def test_a_trial_leaves_old_files_alone(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcnn.model.Model.fit", lambda *_, **__: 1 / 0)
    for name in ("m", "run", "c.png"):
        (tmp_path / name).write_text("old")
    files = ["--plot", str(tmp_path / "c.png"), "--checkpoint", str(tmp_path / "run")]
    assert main(train(photos, tmp_path / "m", *files)) == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(("m", "run", "c.png"), "old")


def test_a_class_whose_name_is_no_utf_8(tmp_path):
    """Trained, saved, and examined under a name that text can hold; paths are printed as the bytes they are."""
    folder = make_photos(tmp_path / "photos", 6, (b"caf\xe9", b"th\xc3\xa9"))
    run = [sys.executable, "-m", "fastcnn"]
    subprocess.run([*run, *train(folder, tmp_path / "m")], check=True, capture_output=True)
    assert fastcnn.load(tmp_path / "m").classes == ["café", "thé"]
    report = subprocess.run(
        [*run, "evaluate", "--model", str(tmp_path / "m"), str(folder), "--json"], check=True, capture_output=True
    )
    assert [score["label"] for score in json.loads(report.stdout)["scores"]] == ["café", "thé"]
    photo = os.fsencode(folder) + b"/caf\xe9/0.jpg"
    told = subprocess.run([*run, "classify", "--model", str(tmp_path / "m"), photo], check=True, capture_output=True)
    assert told.stdout.splitlines()[0] == photo


def test_classes_are_text_that_utf_8_can_hold():
    with pytest.raises(ValueError, match="expected text that UTF-8 can hold"):
        fastcnn.zoo.lenet().classes = ["caf\udce9"]
