"""What is no regular file is refused in one line, at once, wherever a file is read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.io._regular import open_regular
from fastcnn.io.image import load_image
from fastcnn.io.torch_checkpoint import load_torch_checkpoint
from fastcnn.io.weights import read_safetensors, read_weights
from fastcnn.onnx_model import load_onnx
from fastcnn.training.checkpoints import read_checkpoint


def network() -> fc.Model:
    return fc.Sequential(fc.Flatten(), fc.Linear(4, 2))


def resume(path):
    network().fit(np.zeros((2, 4)), [0, 1], epochs=1, checkpoint=path, resume=True)


READERS = {
    "load": fc.load, "load_weights": lambda path: network().load_weights(path), "resume": resume,
    "read_weights": read_weights, "read_safetensors": read_safetensors, "load_onnx": load_onnx,
    "load_torch_checkpoint": load_torch_checkpoint, "read_checkpoint": read_checkpoint, "load_image": load_image,
    "build": lambda path: fc.zoo.build("lenet", weights=path),
}  # fmt: skip


@pytest.fixture(params=["a folder", "a named pipe", "a socket", "a device"])
def other(request, tmp_path):
    """The path of something else than a file, and what it is."""
    path = tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as listener:
        if request.param == "a folder":
            path.mkdir()
        elif request.param == "a named pipe":
            os.mkfifo(path)
        elif request.param == "a socket":
            listener.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        yield path, request.param


@pytest.mark.parametrize("name", READERS)
def test_others_are_refused(name, other):
    path, kind = other
    with pytest.raises((OSError, fc.ImageError), match=f"{kind}, expected a regular file") as caught:
        READERS[name](path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_becomes_a_pipe_meanwhile_is_not_waited_for(tmp_path, monkeypatch):
    path, look = tmp_path / "file", os.stat
    path.write_bytes(b"x")

    def look_and_replace(name, *arguments, **settings):
        status = look(name, *arguments, **settings)
        path.unlink()
        os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", look_and_replace)
    with pytest.raises(OSError, match="a named pipe"):
        open_regular(path)


def test_links_to_files_are_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"x"


@pytest.mark.parametrize(
    "command",
    [
        ["info", "PIPE"],
        ["classify", "x.png", "--model", "PIPE"],
        ["classify", "x.png", "--model", "lenet.safetensors", "--labels", "PIPE"],
    ],
)
def test_commands_end_in_one_line(command, tmp_path):
    os.mkfifo(tmp_path / "PIPE")
    fc.zoo.lenet().save(tmp_path / "lenet.safetensors")
    result = subprocess.run(
        [sys.executable, "-m", "fastcnn", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 2 and "PIPE: a named pipe, expected a regular file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", [3, b"x", None, ["x"], object()])
@pytest.mark.parametrize("name", ["load", "load_weights", "read_weights", "read_safetensors", "read_checkpoint"])
def test_what_is_no_path_is_a_type_error(name, path):
    with pytest.raises(TypeError, match=f"path: got {type(path).__name__}, expected a str"):
        READERS[name](path)
