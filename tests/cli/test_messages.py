"""What the command line says where something is wrong: a line or a screen in the user's words, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photo_folders import make_photos, train

import fastcnn
from fastcnn.cli import main
from fastcnn.cli._output import in_words
from fastcnn.io._kinds import kind_of
from fastcnn.io.weights import write_safetensors

EXAMPLES = Path(__file__).parents[2] / "examples"
FOREIGN = {
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file, as Keras writes"),
    "net.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(600), "a TensorFlow Lite model"),
    "net.keras": (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    "net.pkl": (b"\x80\x02}q\x00.", "a pickle"),
    "README.md": (b"# A network\n\nna\xc3\xafve " * 60, "a text file"),
    "net.gz": (b"\x1f\x8b\x08\x00", "a gzip archive"),
    "page.html": (b"\n<!DOCTYPE html><html>", "a web page: the download has failed"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "settings.json": (b'{"layers": []}', "JSON text"),
    "nothing": (b"", "an empty file"),
    "x.npy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
}


def told(capsys, *arguments, code=2):
    assert main([str(argument) for argument in arguments]) == code
    output = capsys.readouterr()
    assert output.out == "" and len(output.err.splitlines()) <= 24 and "Traceback" not in output.err
    return output.err


def run(arguments, **settings):
    result = subprocess.run([sys.executable, "-m", "fastcnn", *arguments], text=True, timeout=60, **settings)
    assert result.stderr is None or ("Traceback" not in result.stderr and len(result.stderr.splitlines()) <= 24)
    return result


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_named(name, tmp_path, capsys):
    content, kind = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    for command in (["info"], ["classify", EXAMPLES / "cat.png", "--model"], ["evaluate", tmp_path, "--model"]):
        message = told(capsys, *command, tmp_path / name)
        assert f"{tmp_path / name}: {kind}" in message and "expected a saved model or an ONNX file" in message
    if name not in ("net.keras", "net.pkl"):  # which PyTorch's checkpoints are
        message = told(capsys, "convert", tmp_path / name, tmp_path / "o.onnx", "--architecture", "lenet")
        assert f"{kind}" in message and "expected a safetensors file or a PyTorch checkpoint" in message


def test_photos_are_no_models(capsys):
    assert "cat.png: a PNG image, expected a saved model" in told(capsys, "info", EXAMPLES / "cat.png")


def test_models_are_not_taken_for_something_else(tmp_path):
    fastcnn.zoo.lenet().save(tmp_path / "m.safetensors")
    fastcnn.zoo.lenet().export_onnx(tmp_path / "m.onnx")
    assert fastcnn.load(tmp_path / "m.safetensors").input_shape == fastcnn.load(tmp_path / "m.onnx").input_shape
    for name in ("m.safetensors", "m.onnx"):
        assert kind_of((tmp_path / name).read_bytes()[:512]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "photos"], "invalid choice: 'trian', expected one of classify, train, explain"),
        (["trian", "photos"], "did you mean train?"),
        (
            ["train", "photos", "-o", "m", "--lerning-rate", "1"],
            "unknown argument --lerning-rate, did you mean --learning-",
        ),
        (
            ["train", "photos", "-o", "m", "--learning_rate=1"],
            "unknown argument --learning_rate, did you mean --learning-",
        ),
        (["train", "photos", "-o", "m", "--network", "resnet81"], "did you mean resnet18?"),
        (["train", "photos", "-o", "m", "--epochs", "many"], "--epochs: many, expected a whole number from 0"),
        (["train", "photos", "-o", "m", "--learning-rate", "nan"], "--learning-rate: nan, expected a number above 0"),
        (["info", "rsnet18"], "'rsnet18' is neither a file nor a model, did you mean resnet18?"),
        (["info", "lenet", "--size", "a"], "--size: a, expected numbers, separated by commas"),
        (["info", "lenet", "--threads", "5000"], "--threads: 5000, expected a whole number from 1 to 1024"),
        (["info", EXAMPLES], "examples: a folder, expected a regular file"),
        (["tune", "lenet", "-o", EXAMPLES], "examples: a folder, expected the name of a file"),
        (["convert", "lenet", "ghost/net.onnx"], "ghost/net.onnx: No such file or directory"),
        (["convert", "lenet", EXAMPLES / "no.onnx" / "net.onnx"], "No such file or directory"),
        (["doctor", "--thread", "1"], "unknown argument --thread"),
    ],
)
def test_what_was_meant_is_asked(arguments, message, capsys):
    text = told(capsys, *arguments)
    assert message in text and "None" not in text and "Errno" not in text


def test_many_classes_and_many_mismatches_fit_a_screen(tmp_path, capsys):
    make_photos(tmp_path / "photos", 1)
    message = told(capsys, "evaluate", tmp_path / "photos")
    assert "expected one of tench, goldfish" in message and "(990 more)" in message and len(message) < 1000
    write_safetensors(tmp_path / "w", fastcnn.zoo.resnet18().state_dict())
    arguments = ["convert", tmp_path / "w", tmp_path / "o.onnx", "--architecture", "efficientnet_lite0"]
    message = told(capsys, *arguments)
    assert "names do not fit" in message and "and 329 more" in message


def test_a_layer_of_a_similar_name_is_named():
    layer = fastcnn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"wieght: unexpected, did you mean weight\?"):
        layer.load_state_dict({"wieght": np.ones((1, 2)), "bias": [1]})


def test_training_names_layers_not_steps():
    model = fastcnn.Sequential(fastcnn.Conv2d(1, 4, 3), fastcnn.BatchNorm2d(4), fastcnn.Flatten(), fastcnn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"training layer '1': .* more than one value per channel") as caught:
        model.fit(np.ones((1, 1, 3, 3)), [0], epochs=1)
    assert "BatchStats" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["info", "lenet"], ["doctor", "--json"], ["bench"]])
def test_an_instruction_set_that_does_not_exist(arguments):
    result = run(arguments, env={**os.environ, "FASTCNN_ISA": "foo"}, capture_output=True)
    assert result.returncode == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert "FASTCNN_ISA='foo', expected one of" in result.stderr


def test_a_traceback_for_contributors(monkeypatch):
    for value in ("", "0"):
        monkeypatch.setenv("FASTCNN_TRACEBACK", value)
        assert main(["info", "no.such"]) == 2
    monkeypatch.setenv("FASTCNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="neither a file nor a model"):
        main(["info", "no.such"])


def test_closed_stdout(tmp_path):
    command = f"{sys.executable} -m fastcnn classify {EXAMPLES / 'cat.png'} --json"
    result = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2 and result.stderr == "fastcnn classify: stdout is closed: what was printed is lost\n"
    command = f"{sys.executable} -m fastcnn convert lenet {tmp_path / 'lenet.safetensors'}"
    assert subprocess.run(f"{command} >&- 2>&-", shell=True).returncode == 0
    assert fastcnn.load(tmp_path / "lenet.safetensors").input_shape == (1, 28, 28)


def test_full_stdout():
    with open("/dev/full", "w") as full:
        result = run(["info", "lenet"], stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 2 and result.stderr == "fastcnn info: stdout: No space left on device\n"


def test_a_pipe_is_no_model_and_no_photo(tmp_path):
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for arguments in (["info", str(pipe)], ["classify", "--model", str(pipe), "x"], ["classify", str(pipe)]):
        result = run(arguments, capture_output=True)
        assert result.returncode in (1, 2) and f"{pipe}: " in result.stderr
    photos = make_photos(tmp_path / "photos", 6)
    for arguments in (
        train(photos, pipe),
        train(photos, tmp_path / "m", "--checkpoint", str(pipe), "--resume"),
        train(photos, tmp_path / "m", "--plot", str(pipe)),
    ):
        result = run(arguments, capture_output=True)
        assert result.returncode == 2 and str(pipe) in result.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("odd"), "unexpected RuntimeError: odd (a fault of fastcnn"),
        (KeyError("x"), "unexpected KeyError: 'x'"),
        (ValueError("a\n" * 100), "a\n" * 22 + "…"),
        (ValueError(("b" * 160 + "\n") * 100), ("b" * 160 + "\n") * 11 + "…"),
        (ValueError(""), "unexpected ValueError"),
        (OSError("words"), "words"),
        (ValueError("x" * 5000), "x" * 999 + "…"),
    ],
)
def test_any_error_is_told_in_words(error, text, capsys, monkeypatch):
    assert in_words(error).startswith(text)

    def fail(*_):
        raise error

    monkeypatch.setattr("fastcnn.cli.info.any_model", fail)
    assert text in told(capsys, "info", "lenet")


def test_options_that_a_model_cannot_follow_are_named(tmp_path, capsys):
    net = fastcnn.zoo.small_cnn(num_classes=2, image_size=16)
    net.classes = ["cat", "dog"]
    net.save(tmp_path / "net.safetensors")
    (tmp_path / "one.txt").write_text("cat\n")
    command = ["classify", EXAMPLES / "cat.png", "--model", tmp_path / "net.safetensors"]
    assert told(capsys, *command, "--labels", tmp_path / "one.txt").endswith("one.txt: 1 names, expected 2\n")
    assert "--size 20,20: the model takes images of 16 x 16 alone" in told(capsys, *command, "--size", "20")
    assert "--json: not allowed with argument --format" in told(capsys, *command, "--format", "csv", "--json")


@pytest.mark.parametrize("share", ["2", "0", "-0.5", "nan"])
def test_a_share_that_is_none_is_told_by_its_option(share, tmp_path, capsys):
    make_photos(tmp_path / "photos", 4)
    message = told(capsys, "train", tmp_path / "photos", "-o", tmp_path / "m.safetensors", f"--validation={share}")
    assert (
        message == f"fastcnn train: --validation {share}: expected a share between 0 and 1, or a folder or label file\n"
    )


def test_photos_that_are_nowhere_are_told_in_the_words_that_were_typed(capsys):
    command = ["classify", "nowhere.jpg", "--model", "efficientnet_lite0"]
    assert told(capsys, *command, code=1) == "fastcnn classify: 'nowhere.jpg' is no file, and stands for no images\n"
