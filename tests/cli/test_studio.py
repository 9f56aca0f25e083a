"""`fastcnn studio`: it answers at the address that it prints, and says why where it cannot begin."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar

import pytest
from photo_folders import make_photos

from fastcnn.cli import main


def test_it_answers_at_the_address_that_it_prints(tmp_path):
    folder = make_photos(tmp_path / "photos", 2)
    command = [sys.executable, "-m", "fastcnn", "studio", str(folder), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = ""
            while not (address := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", told)):
                told += process.stdout.readline()
            jar = urllib.request.HTTPCookieProcessor(CookieJar())
            page = urllib.request.build_opener(jar).open(address[0], timeout=60)
            assert b"<title>fastcnn studio</title>" in page.read() and "token" not in page.url
            events = urllib.request.build_opener(jar).open(f"{page.url}api/events", timeout=60)
            lines = [events.readline() for _ in range(5)]
            assert lines[0] == b"event: photos\n" and lines[3] == b"event: runs\n"
            again = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert again.returncode == 2 and "is open in another studio" in again.stderr
        finally:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130) and "Traceback" not in err


def test_a_port_that_is_taken_is_told(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["studio", str(tmp_path / "photos"), "--no-browser", "--port", port]) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package_is_told(package, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["studio", str(tmp_path / "photos"), "--no-browser"]) == 2
    assert 'pip install "fastcnn[studio]"' in capsys.readouterr().err
    assert not (tmp_path / "photos").exists()


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_ports_are_numbers(port, capsys):
    assert main(["studio", "--port", port]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_file_is_no_project(tmp_path, capsys):
    (tmp_path / "photos").write_text("a file")
    assert main(["studio", str(tmp_path / "photos"), "--no-browser", "--port", "0"]) == 2
    assert "photos" in capsys.readouterr().err
