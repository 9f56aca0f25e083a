"""Who may ask, and how much: hosts, origins, tokens, bytes, pixels, counts; and names that never become paths."""

from __future__ import annotations

import pickle
import struct
import zlib

import pytest
from serving.asking import HOST, as_text, client, photo, served, small_model

from fastcnn.serving import app


@pytest.fixture(scope="module")
def ask():
    with client(served(max_bytes=20_000, max_pixels=5_000, max_images=3)) as asked:
        yield asked


def huge_header():
    """A PNG file of a hundred bytes that says it has 25 million pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 5000, 5000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


async def pieces():
    """A body that does not tell its length."""
    for _ in range(30):
        yield b"x" * 1000


class Bomb:
    def __reduce__(self):
        return (print, ("this must never be printed",))


REFUSED = {
    "too many bytes": (413, {"content": b"x" * 20_001}),
    "bytes in pieces": (413, {"content": "pieces"}),
    "pixels by the header": (413, {"content": huge_header()}),
    "pixels indeed": (413, {"content": photo(0, "JPEG", (80, 80))}),
    "too many in json": (413, {"json": {"images": [as_text(b"x")] * 4}}),
    "too many in a form": (413, {"files": [("file", (f"{i}.png", b"x")) for i in range(4)]}),
    "fields in a form": (400, {"data": {"a": "b"}, "files": {"file": ("a.png", photo())}}),
    "a form without its end": (
        400,
        {"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=y"}},
    ),
    "a form without a boundary": (400, {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}),
    "nothing": (400, {"content": b""}),
    "no json": (400, {"content": b"{", "headers": {"content-type": "application/json"}}),
    "json that is deep": (400, {"content": b"[" * 19_000, "headers": {"content-type": "application/json"}}),
    "json of another kind": (400, {"json": ["x"]}),
    "json with numbers": (400, {"json": {"images": [1]}}),
    "an empty list": (400, {"json": {"images": []}}),
    "no base64": (400, {"json": {"image": "?"}}),
    "letters beyond base64": (400, {"json": {"image": "é"}}),
    "text": (415, {"content": b"x", "headers": {"content-type": "text/plain"}}),
    "a pickle": (415, {"content": pickle.dumps(Bomb())}),
    "half a photo": (415, {"content": photo()[:60]}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bodies(case, ask, capfd):
    status, how = REFUSED[case]
    if how.get("content") == "pieces":
        how = {"content": pieces()}
    answer = ask.post(**how)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    assert "must never" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "model/../model", "con", "model\0", "a" * 5000, ""])
def test_names_are_looked_up_and_never_become_paths(name, ask, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("a name was opened")

    monkeypatch.setattr("fastcnn.loading.load", opened)
    answer = ask.post("/v1/classify", params={"model": name}, content=photo())
    assert answer.status_code == 404 and "is not served" in answer.json()["error"]
    assert ask.get("/v1/model", params={"model": name}).status_code == 404


def test_names_of_files_are_only_handed_back(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "../../up.png"
    answer = ask.post(files={"file": (name, photo())})
    assert answer.json()["results"][0]["name"] == name and not list(tmp_path.iterdir())


def test_other_hosts_and_origins_are_refused(ask):
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        assert ask.post(content=photo(), headers=headers).status_code == 403
    assert ask.post(content=photo(), headers={"origin": f"http://{HOST}"}).status_code == 200
    assert ask.get("/v1/model", headers={"host": "127.0.0.1"}).status_code == 403


def test_by_default_only_this_machine_may_ask():
    with client(app(small_model(), max_batch=1)) as asked:
        assert asked.get("/healthz").status_code == 403  # by the tests' name
        for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
            assert asked.get("/healthz", headers={"host": host}).status_code == 200


def test_tokens():
    with client(served(token="open sesame")) as asked:
        right, wrong = ({"authorization": f"Bearer {token}"} for token in ("open sesame", "open"))
        assert asked.post(content=photo()).status_code == 401
        assert asked.post(content=photo(), headers=wrong).status_code == 401
        assert asked.post(content=photo(), headers=right).status_code == 200
        assert asked.get("/v1/model").status_code == asked.get("/metrics").status_code == 401
        assert asked.get("/healthz").status_code == asked.get("/readyz").status_code == 200


def test_answers_run_nothing_in_a_browser(ask):
    answer = ask.get("/v1/model")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_wrong_methods_and_paths(ask):
    assert ask.get("/v1/classify").status_code == 405
    assert ask.post("/v1/model").status_code == 405
    assert ask.get("/../etc/passwd").status_code == ask.get("/docs").status_code == 404
