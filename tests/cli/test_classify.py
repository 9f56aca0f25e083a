"""`fastcnn classify`: many photos, in batches, from stdin, in four formats, and what Ctrl-C leaves of them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photo_folders import BROKEN, make_photos
from PIL import Image

import fastcnn
from fastcnn.cli import main
from fastcnn.cli._stream import BATCH, Names, batches
from fastcnn.errors import ImageError
from fastcnn.io.image import Preprocess


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = fastcnn.zoo.small_cnn(num_classes=2, in_channels=3, image_size=16, rng=0)
    network.classes, network.preprocess = ["left, side", "right"], Preprocess(16)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    network.save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 20)


def classify(model, *arguments):
    return ["classify", "--model", str(model), *map(str, arguments)]


def expected(model, path):
    return [(entry.label, entry.probability) for entry in fastcnn.load(model).classify(path)]


def test_every_format_tells_the_same(model, photos, capsys):
    (photos / "bad.jpg").write_bytes(BROKEN)
    found = {}
    for name in ("json", "jsonl", "csv", "text"):
        assert main(classify(model, photos, "--format", name)) == 1
        output = capsys.readouterr()
        found[name] = output.out
        assert output.err.count("bad.jpg") == 1
    listed = json.loads(found["json"])
    assert len(listed) == 41 and listed == [json.loads(line) for line in found["jsonl"].splitlines()]
    for entry in listed:
        if "error" not in entry:
            told = [(p["label"], p["probability"]) for p in entry["predictions"]]
            assert [label for label, _ in told] == [label for label, _ in expected(model, entry["path"])]
            np.testing.assert_allclose([p for _, p in told], [p for _, p in expected(model, entry["path"])], rtol=1e-6)
    rows = list(csv.DictReader(io.StringIO(found["csv"])))
    assert [(row["path"], row["label"], float(row["probability"])) for row in rows if not row["error"]] == [
        (entry["path"], p["label"], p["probability"]) for entry in listed for p in entry.get("predictions", ())
    ]
    assert [row["path"] for row in rows if row["error"]] == [str(photos / "bad.jpg")]
    assert len(found["text"].split("\n\n")) == 40
    main(classify(model, photos, "--json"))
    assert capsys.readouterr().out == found["json"]


def test_the_same_bits_however_many_are_ready(model, photos, capsys, monkeypatch):
    outputs = set()
    for size in (1, 4, 16):
        monkeypatch.setattr("fastcnn.cli._stream._size", lambda ready, size=size: min(ready, size))
        assert main(classify(model, photos, "--format", "jsonl")) == 0
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 1


def test_stop_at_the_first_bad_photo(model, photos, capsys):
    (photos / "left side" / "10.jpg").write_bytes(BROKEN)
    assert main(classify(model, photos, "--on-error", "stop", "--json")) == 1
    assert [Path(entry["path"]).name for entry in json.loads(capsys.readouterr().out)] == ["0.jpg", "1.jpg", "10.jpg"]


def test_a_list_without_photos_is_a_list(model, capsys, monkeypatch):
    result = subprocess.run(
        [sys.executable, "-m", "fastcnn", *classify(model, "-", "--json")], input=b"\n\n", capture_output=True
    )
    assert result.returncode == 0 and json.loads(result.stdout) == []


def started(model, *arguments):
    command = [sys.executable, "-m", "fastcnn", *classify(model, *arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_names_on_stdin_are_answered_as_they_come(model, photos):
    """No answer waits for the next name, the end of stdin, or a full batch."""
    odd = photos / "left side" / os.fsdecode(b"caf\xe9 1.jpg")
    shutil.copy(photos / "left side" / "1.jpg", odd)
    with started(model, "-", "--format", "jsonl") as process:
        for path in (photos / "left side" / "1.jpg", odd, photos / "right side" / "2.jpg", photos / "ghost.jpg"):
            process.stdin.write(os.fsencode(path) + b"\r\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert answer["path"] == str(path) and ("error" in answer) == (path.name == "ghost.jpg")
        process.stdin.write(os.fsencode(photos / "left side" / "3.jpg"))  # no newline at the end
        process.stdin.close()
        assert json.loads(process.stdout.readline())["path"].endswith("3.jpg")
        assert process.wait(30) == 1


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "text"])
def test_ctrl_c_keeps_what_was_found(form, model, photos):
    with started(model, "-", "--format", form) as process:
        process.stdin.write(os.fsencode(photos / "left side" / "1.jpg") + b"\n")
        process.stdin.flush()
        begun = b""
        while b"right" not in begun:  # the answer is there
            begun += os.read(process.stdout.fileno(), 1000)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130 and b"Traceback" not in err
    whole = (begun + out).decode()
    if form == "json":
        assert [Path(entry["path"]).name for entry in json.loads(whole)] == ["1.jpg"]
    else:
        assert whole.count("1.jpg") == (2 if form == "csv" else 1) and whole.endswith("\n")


def test_batches_keep_the_order_and_the_errors():
    def load(path):
        if "7" in path:
            raise ImageError(f"{path}: no good")
        return int(Path(path).stem)

    names = Names([])
    names._patterns.clear()
    names._found.extend(fastcnn.cli._stream.Photo(f"{i}.jpg", None) for i in range(50))
    found = list(batches(names, load))
    assert all(len(batch) in (1, 2, 4, 8, BATCH) for batch in found)
    photos = [photo for batch in found for photo in batch]
    assert [photo.path for photo in photos] == [f"{i}.jpg" for i in range(50)]
    assert [photo.path for photo in photos if photo.error] == [f"{i}.jpg" for i in (7, 17, 27, 37, 47)]
    assert all(photo.content == i for i, photo in enumerate(photos) if not photo.error)


def test_a_photo_twice_is_answered_once(model, photos, capsys):
    one = photos / "left side" / "1.jpg"
    Image.open(one).save(photos / "left side" / "1 copy.png")
    assert main(classify(model, one, photos / "left side", one, "--json")) == 0
    paths = [entry["path"] for entry in json.loads(capsys.readouterr().out)]
    assert paths[0] == str(one) and len(paths) == len(set(paths)) == 21
