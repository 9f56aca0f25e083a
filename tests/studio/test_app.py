"""The routes of the studio, asked as a browser asks: what they answer, and what they refuse."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from asgi_client import Client
from photo_folders import BROKEN, make_photos
from PIL import Image

from fastcnn import functional as F
from fastcnn._web import Limits, Policy
from fastcnn.studio import app as app_module
from fastcnn.studio.app import Studio
from fastcnn.studio.project import Project

STATIC = app_module.STATIC
POLICY = Policy("the-token-of-the-tests", limits=Limits(body=200_000, photo=100_000, pixels=1_000_000))
VERTICAL = [[1, 0, -1]] * 3


@pytest.fixture
def project(tmp_path):
    made = Project(make_photos(tmp_path / "photos", 6, ("cat", "dog")))
    yield made
    made.close()


@pytest.fixture
def page(project):
    return Page(project)


class Page:
    """A browser's page: it has the cookie, sends the origin, and knows the key."""

    def __init__(self, project):
        self.studio = Studio(project, POLICY)
        self.client = Client(self.studio.app)
        self.client.get("/", params={"token": POLICY.token})
        self.state = self.get("/api/state").json()

    def get(self, path):
        return self.client.get(path)

    def post(self, path, value=None, body=None, version=None, **headers):
        sent = {"origin": "http://localhost", "x-fastcnn-csrf": self.state["csrf"], **headers}
        if version is not None:
            sent["if-match"] = f'"{version}"'
        return self.client.post(path, content=json.dumps(value or {}) if body is None else body, headers=sent)

    def look_again(self):
        self.state = self.get("/api/state").json()
        return self.state

    def photos(self, label):
        number = [each["name"] for each in self.state["classes"]].index(label)
        return [photo[0] for photo in self.state["photos"] if photo[1] == number]


def photo(size=(40, 30), kind="PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(file, kind)
    return file.getvalue()


def test_the_page_comes_from_this_machine_alone(page):
    answer = page.get("/")
    assert answer.status_code == 200 and "script-src 'self'" in answer.headers["content-security-policy"]
    text = answer.text
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text)
    for path in sorted(STATIC.iterdir()):
        served = page.get(f"/static/{path.name}")
        assert served.status_code == 200 and served.content == path.read_bytes()
        foreign = re.findall(r"https?://[^\s\"'`)]+", path.read_text(encoding="utf-8"))
        assert {*foreign} <= {"http://www.w3.org/2000/svg", "http://127.0.0.1:8000/v1/classify"}, path
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert sink not in path.read_text(encoding="utf-8"), path


def test_the_page_is_small():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) <= 150_000


def test_modules_import_modules_that_exist():
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert (STATIC / name).is_file(), (path, name)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2e%2e%2f%2e%2e%2fmodel.py",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/api/photos/..%2f..%2fetc%2fpasswd/thumb",
        "/api/photos/%00/thumb", "/api/runs/..%2f..%2f/export/onnx", "/api/runs/%2e%2e/thumb/0",
        "/.fastcnn/journal.jsonl",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(page, path):
    answer = page.get(path)
    assert answer.status_code in (400, 404) and "root:" not in answer.text and "import" not in answer.text


def test_without_the_cookie_nothing_is_told(page):
    stranger = Client(page.studio.app)
    for path in ("/", "/api/state", "/api/events", "/static/app.js", f"/api/photos/{page.photos('cat')[0]}/thumb"):
        assert stranger.get(path).status_code == 401


def test_a_rebound_name_and_foreign_pages_are_refused(page):
    assert page.client.get("/api/state", headers={"host": "evil.example"}).status_code == 403
    assert page.client.get("/api/state", headers={"origin": "http://evil.example"}).status_code == 403
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"x-fastcnn-csrf": "guessed"}):
        assert page.post("/api/classes", {"name": "bird"}, **headers).status_code == 403
    plain = page.client.post("/api/classes", content='{"name": "bird"}', headers={"content-type": "text/plain"})
    assert plain.status_code == 403
    assert [each["name"] for each in page.look_again()["classes"]] == ["cat", "dog"]


def test_classes_and_photos_are_changed_and_undone(page):
    before = page.state["version"]
    assert page.post("/api/classes", {"name": "bird"}).json() == {"name": "bird"}
    for name in ("a.png", "../../b.png"):
        path = f"/api/photos?class=bird&name={name}&batch=x"
        assert page.post(path, body=photo()).json()["path"].startswith("bird/")
    state = page.look_again()
    assert [each["count"] for each in state["classes"]] == [2, 6, 6]
    moved = page.post("/api/photos/move", {"photos": page.photos("bird"), "to": "cat"}, version=state["version"])
    assert moved.json()["count"] == 2
    version = moved.json()["version"]
    renamed = page.post("/api/classes/rename", {"name": "dog", "to": "hound"}, version=version).json()
    assert renamed["name"] == "hound"
    state = page.look_again()
    removed = page.post("/api/photos/remove", {"photos": page.photos("hound")}, version=state["version"]).json()
    assert removed["count"] == 6
    removed = page.post("/api/classes/remove", {"name": "bird"}, version=removed["version"]).json()
    while removed["undo"]:
        removed = page.post("/api/undo", version=removed["version"]).json()
    assert removed["version"] == before


def test_two_windows_do_not_overwrite_each_other(page):
    version = page.state["version"]
    first = {"photos": page.photos("cat")[:1], "to": "dog"}
    assert page.post("/api/photos/move", first, version=version).status_code == 200
    for path, value in (
        ("/api/photos/move", {"photos": page.photos("cat"), "to": "dog"}),
        ("/api/photos/remove", {"photos": page.photos("cat")}),
        ("/api/classes/rename", {"name": "cat", "to": "kitten"}),
        ("/api/classes/remove", {"name": "cat"}),
        ("/api/undo", {}),
    ):
        for stale in (version, None):
            answer = page.post(path, value, version=stale)
            assert answer.status_code == 412 and "look again" in answer.json()["error"]
    assert [each["count"] for each in page.look_again()["classes"]] == [5, 7]


@pytest.mark.parametrize("name", ["..", "a/b", "con", ".x", "", "a\0", "val"])
def test_hostile_names_of_classes_are_refused(page, name):
    assert page.post("/api/classes", {"name": name}).status_code == 400
    version = page.state["version"]
    assert page.post("/api/classes/rename", {"name": "cat", "to": name}, version=version).status_code == 400
    path = f"/api/photos?{'&'.join(['class=' + name.replace(chr(0), '%00'), 'name=a.png'])}"
    assert page.post(path, body=photo()).status_code in (400, 404)


def test_uploads_are_limited_and_must_be_photos(page):
    path = "/api/photos?class=cat&name=a.png"
    noise = np.random.default_rng(0).integers(0, 255, (250, 250, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert page.post(path, body=file.getvalue()).status_code == 413  # bytes of a photo
    assert page.post(path, body=b"\xff\xd8\xff" + bytes(200_001)).status_code == 413  # bytes of a body
    assert page.post(path, body=photo((1200, 1200))).status_code == 413  # pixels
    taken = Path(page.studio.project.root) / "taken"
    for body in (b"", b"GIF89a", BROKEN, b"<svg onload=alert(1)>", pickle.dumps({"a": 1}), b"%!PS"):
        assert page.post(path, body=body).status_code == 415
    assert not taken.exists() and page.look_again()["classes"][0]["count"] == 6
    assert list((page.studio.project.state / "incoming").iterdir()) == []


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"photos": 3, "to": "cat"}'])
def test_bodies_that_are_no_objects_are_refused(page, body):
    answer = page.post("/api/photos/move", body=body, version=page.state["version"])
    assert answer.status_code == 400 and answer.json()["error"]


def test_thumbnails_are_jpegs_and_links_are_not_followed(page, tmp_path):
    key = page.photos("cat")[0]
    answer = page.get(f"/api/photos/{key}/thumb")
    assert answer.headers["content-type"] == "image/jpeg" and "immutable" in answer.headers["cache-control"]
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
    assert page.get(f"/api/photos/{key}/thumb").content == answer.content
    path = page.studio.project.root / page.studio.project.listing().photos[key].path
    path.unlink()
    (tmp_path / "secret.png").write_bytes(photo())
    os.symlink(tmp_path / "secret.png", path)
    assert page.get(f"/api/photos/{key}/thumb").status_code in (403, 404)
    (page.studio.project.root / "cat" / "broken.jpg").write_bytes(BROKEN)
    broken = [p for p in page.look_again()["photos"] if p[3] == "broken.jpg"][0]
    assert page.get(f"/api/photos/{broken[0]}/thumb").status_code == 415


def patiently(page, path):
    """Ask until the work is done."""
    while "result" not in (told := page.get(path).json()):
        assert "error" not in told, told
    return told["result"]


def test_the_check_finds_what_is_wrong(page):
    root = page.studio.project.root
    first = (root / "cat" / "0.jpg").read_bytes()
    (root / "cat" / "copy.jpg").write_bytes(first)
    (root / "dog" / "copy.jpg").write_bytes(first)
    (root / "cat" / "broken.jpg").write_bytes(BROKEN)
    image = Image.open(io.BytesIO((root / "dog" / "1.jpg").read_bytes()))
    image.resize((96, 80)).save(root / "dog" / "larger.jpg", quality=90)
    Image.new("RGB", (20, 20), (9, 200, 30)).save(root / "dog" / "tiny.png")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(root / "dog" / "grey.png")
    page.look_again()
    names = {p[0]: p[3] for p in page.state["photos"]}
    found = patiently(page, "/api/check")
    faults = {fault["kind"]: [{names[key] for key in group} for group in fault["groups"]] for fault in found["faults"]}
    assert faults["broken"] == [{"broken.jpg"}] and list(found["reasons"].values())
    assert faults["contradictions"] == [{"0.jpg", "copy.jpg"}]
    assert {"1.jpg", "larger.jpg"} in faults["near"]
    assert faults["tiny"] == [{"tiny.png"}]
    assert {"grey.png"} in faults["grey"]
    assert found["few"] == ["cat"] and found["count"] == len(names)


def test_classes_out_of_balance_are_told(page):
    assert patiently(page, "/api/check")["unbalanced"] == 0
    for number in range(5):
        (page.studio.project.root / "cat" / f"{number}.jpg").unlink()
    assert patiently(page, "/api/check")["unbalanced"] == 6  # dogs beside a cat


def test_copies_across_training_and_validation_are_found(tmp_path):
    root = tmp_path / "photos"
    for part in ("train", "val"):
        make_photos(root / part, 3, ("cat", "dog"))  # the same photos in both
    for number in range(2):  # the same picture in another size is the same photo
        path = root / "val" / "cat" / f"{number}.jpg"
        Image.open(path).resize((96, 80)).save(path, quality=90)
    project = Project(root)
    page = Page(project)
    faults = {fault["kind"]: fault["groups"] for fault in patiently(page, "/api/check")["faults"]}
    assert len(faults["leaks"]) == 6 and len(faults["near"]) == 2
    project.close()


def test_copies_that_training_would_put_on_both_sides_are_found(page):
    root = page.studio.project.root
    for path in [*(root / "cat").iterdir()]:
        path.with_name(f"again {path.name}").write_bytes(path.read_bytes())
    faults = {fault["kind"]: fault["groups"] for fault in patiently(page, "/api/check")["faults"]}
    assert len(faults["duplicates"]) == 6 and 0 < len(faults["leaks"]) <= 6


def test_the_lesson_computes_on_the_readers_photo(page):
    key = page.photos("cat")[0]
    told = page.post("/api/lesson", {"photo": key, "filter": VERTICAL}).json()
    numbers = np.array(told["numbers"], np.float32)
    assert numbers.shape == (26, 26) and numbers.min() >= 0 and numbers.max() <= 255
    expected = F.conv2d(numbers[None, None], np.array(VERTICAL, np.float32)[None, None])[0, 0]
    assert np.abs(np.array(told["filtered"]) - expected).max() < 4  # the numbers that are shown are rounded
    positive, pooled = np.array(told["positive"]), np.array(told["pooled"])
    assert (positive == np.maximum(told["filtered"], 0)).all()
    assert (pooled == positive.reshape(12, 2, 12, 2).max(axis=(1, 3))).all()
    decided = page.post("/api/lesson/decide", {"photo": key, "filter": VERTICAL}).json()
    scores = np.tensordot(np.array(decided["weights"]), pooled / 255, 2) + decided["bias"]
    assert np.abs(scores - decided["scores"]).max() < 0.1
    assert sum(decided["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert decided["learned_from"] == 12 and decided["classes"] == ["cat", "dog"]
    assert decided["right"] > 0.9  # a vertical edge tells them apart
    nothing = page.post("/api/lesson", {"photo": key, "filter": [[0] * 3] * 3}).json()
    assert np.abs(nothing["filtered"]).max() == 0


@pytest.mark.parametrize(
    "given", [None, [], [[1, 2, 3]], [[1, 2, 3]] * 2 + [[1, 2]], [["a"] * 3] * 3, [[1e9] * 3] * 3, [[True] * 3] * 3,
              [[float("nan")] * 3] * 3]
)  # fmt: skip
def test_filters_are_nine_numbers(page, given):
    for path in ("/api/lesson", "/api/lesson/decide"):
        answer = page.post(path, {"photo": page.photos("cat")[0], "filter": given})
        assert answer.status_code == 400 and "three rows" in answer.json()["error"]


def test_runs_that_do_not_exist_are_told(page):
    for path in ("/api/runs/001/examined", "/api/runs/x/layers?photo=1", "/api/runs/001/export/onnx"):
        assert page.get(path).status_code == 404
    assert page.post("/api/runs", {"network": "nonsense"}).status_code == 400
