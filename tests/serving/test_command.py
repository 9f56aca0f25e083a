"""`fastcnn serve` as a process: addresses and Unix sockets, signals, forks, and what is refused before it listens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading

import httpx
import pytest
from serving.asking import client, photo, served, small_model

from fastcnn.cli import main


@pytest.fixture
def model(tmp_path):
    small_model(0, ("a", "b")).save(tmp_path / "pets.safetensors")
    return str(tmp_path / "pets.safetensors")


class Process:
    """The command, and the lines that it prints before it listens."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "fastcnn", "serve", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.told = []
        for line in self.running.stderr:
            self.told.append(line)
            if "listening at" in line:
                break
        assert self.told and "listening at" in self.told[-1], self.told
        self.address = self.told[-1].split()[-1]

    def stop(self, number=signal.SIGTERM):
        self.running.send_signal(number)
        return self.running.wait(60)

    def close(self):
        if self.running.poll() is None:
            self.running.kill()
        self.running.wait(60)
        self.running.stderr.close()


@pytest.fixture
def start():
    processes = []

    def begin(*arguments):
        processes.append(Process(*arguments))
        return processes[-1]

    yield begin
    for process in processes:
        process.close()


def test_an_address_and_several_models(model, start, tmp_path):
    small_model(1, ("c", "d")).save(tmp_path / "cups.onnx")
    process = start(model, f"mine={tmp_path / 'cups.onnx'}", "--port", 0, "--max-batch", 2)
    assert re.fullmatch(r"http://127.0.0.1:\d+", process.address)
    assert [line.split(":")[1].strip() for line in process.told[:2]] == ["pets", "mine"]
    with httpx.Client(base_url=process.address, timeout=60) as ask:
        found = ask.post("/v1/classify?model=mine", content=photo()).json()
        assert {one["label"] for one in found["results"][0]["predictions"]} == {"c", "d"}
        assert ask.get("/readyz").status_code == 200
        assert ask.get("/healthz", headers={"host": "evil.example"}).status_code == 403
    assert process.stop(signal.SIGINT) == 0


def test_a_unix_socket_is_the_users_own_and_a_token_opens_it(model, start, tmp_path):
    path = tmp_path / "serve.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))  # as a process that was killed leaves it
    stale.close()
    (tmp_path / "token").write_text("open sesame\n")
    process = start(model, "--uds", path, "--max-batch", 1, "--token-file", tmp_path / "token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and process.address == str(path)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=60) as ask:
        assert ask.post("/v1/classify", content=photo()).status_code == 401
        headers = {"authorization": "Bearer open sesame"}
        assert ask.post("/v1/classify", content=photo(), headers=headers).status_code == 200
    assert main(["serve", model, "--uds", str(path), "--max-batch", "1"]) == 2  # another one has it
    assert process.stop() == 0 and not path.exists()


def test_sigterm_answers_what_is_in_flight(model, start):
    """A request whose body is still on its way when the signal comes is answered; new ones are not taken."""
    process = start(model, "--port", 0, "--max-batch", 1)
    host, port = process.address.removeprefix("http://").split(":")
    content = photo()
    head = f"POST /v1/classify HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=60) as half:
        half.sendall(head + content[:100])
        with httpx.Client(base_url=process.address, timeout=60) as ask:
            assert ask.post("/v1/classify", content=content).status_code == 200  # so the half has been read
        process.running.send_signal(signal.SIGTERM)
        refused = threading.Event()
        for _ in range(600):
            try:
                socket.create_connection((host, int(port)), timeout=60).close()
            except OSError:
                refused.set()
                break
            threading.Event().wait(0.05)
        assert refused.is_set() and process.running.poll() is None
        half.sendall(content[100:])
        received = b""
        while part := half.recv(65536):
            received += part
    assert received.startswith(b"HTTP/1.1 200") and b'"predictions"' in received
    assert process.running.wait(60) == 0


def test_an_application_from_before_a_fork_answers():
    """As of a server that loads once and forks workers."""
    application = served()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            with client(application) as ask:
                answer = ask.post(content=photo())
            os.write(writing, json.dumps([answer.status_code, len(answer.json()["results"])]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert told.read() == "[200, 1]"
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.onnx"], "is neither a file nor a model"),
        (["resnet18"], "has no trained weights here"),
        (["{model}", "{model}"], "two models are called pets"),
        (["{model}", "--host", "192.0.2.1"], "192.0.2.1:8000: "),
        (["{model}", "--host", "no such host"], "--host no such host"),
        (["{model}", "--uds", "{model}"], "exists, and is no socket"),
        (["{model}", "--uds", "none/at.sock"], "none/at.sock: "),
        (["{model}", "--token-file", "none"], "none: No such file"),
        (["{model}", "--token-file", "{model}"], "expected a line of plain letters"),
        (["{model}", "--port", "70000"], "expected a whole number from 0 to 65535"),
        (["{model}", "--queue", "0"], "expected a whole number from 1"),
    ],
)
def test_what_is_refused_before_it_listens(arguments, message, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word.format(model=model) for word in arguments]
    assert main(["serve", *words, "--max-batch", "1"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart"])
def test_a_missing_package_is_named(package, model, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("fastcnn.serving.", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", model, "--max-batch", "1", "--port", "0"]) == 2
    assert 'pip install "fastcnn[serve]"' in capsys.readouterr().err
