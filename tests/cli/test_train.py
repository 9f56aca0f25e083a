"""`fastcnn train` and `fastcnn evaluate`: from a folder of photos to a model that `fastcnn classify` uses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn.cli import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Sixteen photos of each of two classes, told apart by where it is bright."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("left side", "right side"):
        (folder / name).mkdir()
        for i in range(16):
            pixels = rng.integers(0, 100, (40, 48, 3), dtype=np.uint8)
            half = pixels[:, :24] if name == "left side" else pixels[:, 24:]
            half += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.jpg", quality=95)
    return folder


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    fastcnn.set_num_threads(None)


def train(photos, output, *arguments):
    return [
        "train",
        str(photos),
        "-o",
        str(output),
        "--size",
        "16",
        "--epochs",
        "8",
        "--batch-size",
        "8",
        "--no-augment",
        *arguments,
    ]  # mirrored, left is right


def test_train_evaluate_classify(photos, tmp_path, capsys):
    model, picture = tmp_path / "model.safetensors", tmp_path / "confusion.png"
    assert main(train(photos, model, "--plot", str(picture))) == 0
    output = capsys.readouterr()
    assert "accuracy 100.0 % of 6" in output.out and "left side" in output.out and "confusion" in output.out
    assert "26 photos to learn from, 6 to examine" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")
    saved = fastcnn.load(model)
    assert saved.classes == ["left side", "right side"] and saved.preprocess.size == (16, 16)

    assert main(["classify", "--model", str(model), str(photos / "right side" / "3.jpg"), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["predictions"][0]["label"] == "right side"

    assert main(["evaluate", "--model", str(model), str(photos), "--json", "--plot", str(picture)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["count"] == 32 and report["accuracy"] == 1 and report["confusion"] == [[16, 0], [0, 16]]
    assert main(["evaluate", "--model", str(model), str(photos)]) == 0
    assert "precision" in capsys.readouterr().out


def test_json_checkpoint_and_validation_folder(photos, tmp_path, capsys):
    arguments = train(
        photos,
        tmp_path / "m",
        "--json",
        "--checkpoint",
        str(tmp_path / "run"),
        "--resume",
        "--validation",
        str(photos),
        "--threads",
        "1",
    )
    assert main(arguments) == 0
    first = capsys.readouterr()
    result = json.loads(first.out)
    assert first.err == "" and result["classes"] == ["left side", "right side"] and not result["interrupted"]
    assert len(result["history"]["loss"]) == 8 and result["report"]["count"] == 32
    weights = fastcnn.load(tmp_path / "m").state_dict()
    assert main(arguments) == 0  # resumed, and done already
    assert json.loads(capsys.readouterr().out)["history"] == result["history"]
    again = fastcnn.load(tmp_path / "m").state_dict()
    assert all(np.array_equal(again[name], array) for name, array in weights.items())


def test_pretrained(photos, tmp_path, capsys):
    output = tmp_path / "m"
    arguments = [
        "train",
        str(photos),
        "-o",
        str(output),
        "--pretrained",
        "efficientnet_lite0",
        "--epochs",
        "10",
        "--json",
    ]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["report"]["accuracy"] >= 5 / 6
    trained = fastcnn.load(output)
    assert trained.preprocess == fastcnn.load_pretrained("efficientnet_lite0").preprocess
    stem = "_conv_stem.weight"
    before = fastcnn.load_pretrained("efficientnet_lite0").state_dict()
    assert np.array_equal(trained.state_dict().get(stem, before[stem]), before[stem])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere", "-o", "m"], "nowhere: expected a folder"),
        (["train", "{photos}"], "-o"),
        (["train", "{photos}", "-o", "no/folder/m"], "there is no folder no/folder"),
        (["train", "{photos}", "-o", "m", "--plot", "no/folder/c.png"], "there is no folder no/folder"),
        (["train", "{photos}/left side", "-o", "m"], "no sub-folders"),
        (["train", "{photos}", "-o", "m", "--pretrained", "lenet"], "invalid choice"),
        (["train", "{photos}", "-o", "m", "--thaw"], "--thaw"),
        (["train", "{photos}", "-o", "m", "--size", "64", "--pretrained", "efficientnet_lite0"], "--size 64"),
        (["train", "{photos}", "-o", "m", "--epochs", "-1"], "--epochs: -1, expected a whole number from 0"),
        (["train", "{photos}", "-o", "m", "--validation", "1.5"], "--validation 1.5: expected a share between 0 and 1"),
        (["train", "{photos}", "-o", "m", "--resume"], "--resume: expected with --checkpoint"),
        (["train", "{photos}", "-o", "m", "--size", "2"], "image_size=(2, 2)"),
        (["evaluate", "{photos}"], "class 'left side', expected one of tench"),
        (["evaluate", "nowhere"], "nowhere: expected a folder"),
    ],
)
def test_what_cannot_run_exits_with_2(arguments, message, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([argument.format(photos=photos) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err
    assert not list(tmp_path.iterdir())


def test_a_broken_photo_is_named(photos, tmp_path, capsys):
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            (folder / name / f"{i}.jpg").write_bytes((photos / "left side" / f"{i}.jpg").read_bytes())
    (folder / "b" / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    assert main(train(folder, tmp_path / "m")) == 2
    output = capsys.readouterr()
    assert output.out == "" and f"b{os.sep}1.jpg" in output.err and not (tmp_path / "m").exists()


def test_ctrl_c_saves_the_model_beside_the_old_one(photos, tmp_path):
    output, beside = tmp_path / "m.safetensors", tmp_path / "m-interrupted-2.safetensors"
    output.write_text("yesterday's")
    (tmp_path / "m-interrupted.safetensors").write_text("this morning's")
    command = [sys.executable, "-m", "fastcnn", *train(photos, output, "--checkpoint", str(tmp_path / "run"))]
    command[command.index("8", command.index("--epochs"))] = "100000"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not (tmp_path / "run").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted after" in err and "Traceback" not in err and "Warning" not in err and "accuracy" in out
    assert fastcnn.load(beside).classes == ["left side", "right side"] and str(beside) in err
    assert output.read_text() == "yesterday's"
    assert (tmp_path / "m-interrupted.safetensors").read_text() == "this morning's"


def test_ctrl_c_while_the_model_is_written_waits_for_the_file(photos, tmp_path, monkeypatch):
    """What was learned is in no other file, unless there is a checkpoint."""
    save = fastcnn.Model.save

    def interrupted(model, path):
        os.kill(os.getpid(), signal.SIGINT)
        save(model, path)

    monkeypatch.setattr(fastcnn.Model, "save", interrupted)
    assert main(train(photos, tmp_path / "m")) == 130
    assert fastcnn.load(tmp_path / "m").classes == ["left side", "right side"]


@pytest.mark.parametrize("is_room", [True, False])
def test_what_was_learned_is_saved_elsewhere_where_the_disk_is_full_meanwhile(
    is_room, photos, tmp_path, capsys, monkeypatch
):
    save, target, other = fastcnn.Model.save, tmp_path / "m", tmp_path / "temporary"
    other.mkdir()
    target.write_text("yesterday's")
    monkeypatch.setattr("tempfile.tempdir", str(other))

    def full(model, path):
        if str(path) == str(target) or not is_room:
            raise OSError(28, "No space left on device", str(path))
        save(model, path)

    monkeypatch.setattr(fastcnn.Model, "save", full)
    assert main(train(photos, target)) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"fastcnn train: {target}: No space left on device")
    assert target.read_text() == "yesterday's"
    saved = list(other.rglob("m"))
    assert [message.endswith(f"; the model is saved as {path}") for path in saved] == [True] * is_room
    assert all(fastcnn.load(path).classes == ["left side", "right side"] for path in saved)
    assert is_room or not list(other.iterdir())


def test_every_command_has_help_with_an_example(capsys):
    for command in ("train", "evaluate"):
        assert main([command, "--help"]) == 0
        assert f"example: fastcnn {command}" in capsys.readouterr().out


def test_a_rate_that_is_too_high_leaves_no_file(photos, tmp_path, capsys):
    old = tmp_path / "m"
    old.write_text("yesterday's")
    assert main(train(photos, old, "--learning-rate", "1e20")) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("fastcnn train:") == 1
    assert "learning_rate=" in output.err and "is too high" in output.err and "Traceback" not in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["m"] and old.read_text() == "yesterday's"


def test_what_was_learned_before_a_bad_loss_is_saved_beside(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "fastcnn.cli.train.OneCycle", lambda: lambda step, steps, in_epoch: 1.0 if step < 2 * in_epoch else 1e30
    )
    (tmp_path / "m").write_text("yesterday's")
    assert main(train(photos, tmp_path / "m")) == 1
    beside = tmp_path / "m-interrupted"
    assert f"it is saved as {beside}" in capsys.readouterr().err
    saved = fastcnn.load(beside)
    assert saved.classes == ["left side", "right side"] and (tmp_path / "m").read_text() == "yesterday's"
    assert all(np.isfinite(array).all() for array in saved.state_dict().values())
