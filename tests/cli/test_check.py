"""`fastcnn check`: each fault that a folder of photos can have is found, told, shown and moved aside."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from photo_folders import make_photo, make_photos, spoil
from PIL import Image

from fastcnn.cli import main
from fastcnn.training.alike import Alike
from fastcnn.training.photo_check import check_folder

CAT = Path(__file__).parents[2] / "examples" / "cat.png"


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 5)


def found(capsys, *arguments):
    code = main(["check", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def names(groups):
    return [sorted("/".join(path.split(os.sep)[-2:]) for path in group) for group in groups]


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def copied(photos, source, target):
    shutil.copy(photos / source, photos / target)


def test_good_photos_have_no_faults(photos, capsys):
    assert main(["check", str(photos)]) == 0
    output = capsys.readouterr().out
    assert "10 photos in" in output and "nothing is wrong with them" in output and "right side" in output


def test_broken_and_double_photos(photos, capsys):
    spoil(photos, "left side/0.jpg", "right side/1.jpg")
    (photos / "left side" / "1.jpg").write_bytes(b"")
    copied(photos, "left side/2.jpg", "left side/again.jpg")
    copied(photos, "left side/3.jpg", "right side/other.jpg")
    code, report = found(capsys, photos)
    assert code == 1 and [photo["reason"] for photo in report["broken"]].count("empty") == 1
    assert len(report["broken"]) == 3
    same = [["left side/2.jpg", "left side/again.jpg"], ["left side/3.jpg", "right side/other.jpg"]]
    assert names(report["duplicates"]) == same and names(report["contradictions"]) == same[1:]
    assert report["near_duplicates"] == [] and report["leaks"] == []
    assert main(["check", str(photos)]) == 1
    output = capsys.readouterr().out
    assert "3 photos cannot be read:" in output and "2 groups of files with the same content:" in output


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image, {"quality": 30}),
        lambda image: (image.resize((200, 133)), {}),
        lambda image: (image.point(lambda value: min(255, value + 3)), {}),
        lambda image: (image.transpose(Image.Transpose.ROTATE_90), {"exif": turned(6)}),
    ],
    ids=["saved again", "smaller", "brighter", "turned"],
)
def test_photos_that_look_the_same(change, photos, capsys):
    shutil.copy(CAT, photos / "left side" / "cat.png")
    changed, settings = change(Image.open(CAT).convert("RGB"))
    changed.save(photos / "left side" / "again.jpg", **settings)
    code, report = found(capsys, photos)
    assert code == 0 and names(report["near_duplicates"]) == [["left side/again.jpg", "left side/cat.png"]]
    assert report["duplicates"] == []


def test_hundreds_of_different_photos_do_not_look_the_same():
    pictures = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), np.uint8)
    assert Alike(list(pictures)).groups() == []
    assert Alike([]).groups() == [] and Alike([pictures[0]] * 3).groups() == [[0, 1, 2]]


def test_photos_in_training_and_validation(tmp_path, capsys):
    make_photos(tmp_path / "all" / "train", 4)
    rng = np.random.default_rng(1)
    for name in ("left side", "right side"):
        (tmp_path / "all" / "val" / name).mkdir(parents=True)
        make_photo(tmp_path / "all" / "val" / name / "own.jpg", name == "left side", rng)
    copied(tmp_path / "all", "train/left side/0.jpg", "val/left side/same.jpg")
    shutil.copy(CAT, tmp_path / "all" / "train" / "right side")
    Image.open(CAT).resize((60, 40)).save(tmp_path / "all" / "val" / "right side" / "small.png")
    whole = found(capsys, tmp_path / "all")
    apart = found(capsys, tmp_path / "all" / "train", "--validation", tmp_path / "all" / "val")
    for code, report in (whole, apart):
        assert code == 1 and report["counts"]["validation"] == {"left side": 2, "right side": 2}
        assert sorted(names(report["leaks"])) == [
            ["left side/0.jpg", "left side/same.jpg"],
            ["right side/cat.png", "right side/small.png"],
        ]
    assert [path.split(os.sep)[-3:] for path in whole[1]["redundant"]] == [["train", "left side", "0.jpg"]]


def test_what_may_be_as_it_should(photos, capsys):
    rng = np.random.default_rng(2)
    for i in range(20):
        make_photo(photos / "left side" / f"more {i}.jpg", True, rng)
    make_photo(photos / "left side" / "tiny.jpg", True, rng, (16, 40))
    Image.fromarray(rng.integers(0, 256, (40, 40, 4), np.uint8), "RGBA").save(photos / "left side" / "clear.png")
    Image.fromarray(rng.integers(0, 256, (50, 40, 3), np.uint8)).save(
        photos / "left side" / "turned.jpg", exif=turned(6)
    )
    (photos / "left side" / "photo.heic").write_bytes(b"?")
    code, report = found(capsys, photos)
    assert code == 0 and report["modes"] == {"RGBA": 1} and report["rotated"] == 1 and report["others"] == {".heic": 1}
    assert names([report["tiny"]]) == [["left side/tiny.jpg"]] and report["unbalanced"] == {"": 28 / 5}
    assert main(["check", str(photos)]) == 0
    output = capsys.readouterr().out
    for told in ("5.6 times", "1 RGBA", "1 photos are turned", "1 files .heic", "1 photos with a side below 32 pixels"):
        assert told in output


def test_fix_moves_faulty_photos_aside(photos, capsys):
    spoil(photos, "left side/0.jpg")
    copied(photos, "left side/2.jpg", "left side/again.jpg")
    copied(photos, "left side/3.jpg", "right side/other.jpg")
    before = {path.name: path.read_bytes() for path in photos.rglob("*.jpg")}
    code, report = found(capsys, photos, "--fix")
    assert code == 0 and len(report["moved"]) == 4
    aside = photos.with_name("photos-aside")
    assert sorted(str(path.relative_to(aside)) for path in aside.rglob("*.jpg")) == [
        "left side/0.jpg",
        "left side/3.jpg",
        "left side/again.jpg",
        "right side/other.jpg",
    ]
    assert all(path.read_bytes() == before[path.name] for path in aside.rglob("*.jpg"))
    assert found(capsys, photos)[0] == 0
    spoil(photos, "left side/1.jpg")
    (photos / "left side" / "1.jpg").rename(photos / "left side" / "0.jpg")
    assert main(["check", str(photos), "--fix"]) == 0
    assert "moved 1 files aside, below" in capsys.readouterr().out
    assert (aside / "left side" / "0.jpg").exists() and (aside / "left side" / "0 (2).jpg").exists()


def test_the_page_shows_them_and_loads_nothing(photos, capsys, tmp_path):
    (photos / "<b>").mkdir()
    copied(photos, "left side/2.jpg", "left side/again.jpg")
    copied(photos, "left side/2.jpg", "<b>/again.jpg")
    spoil(photos, "left side/0.jpg")
    assert main(["check", str(photos), "--page", str(tmp_path / "page.html")]) == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,/9j/") == 6 and "&lt;b&gt;/again.jpg" in text and "<b>" not in text
    assert "cannot be read" in text and not re.search(r"""(src|href)=["'](?!data:)|url\(|https?:""", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ghost"], "ghost: expected a folder"),
        (["empty"], "empty: no photos"),
        (["photos", "--page", "."], "--page ."),
        (["photos", "--validation", "ghost"], "ghost: expected a folder"),
    ],
)
def test_what_cannot_be_checked(arguments, message, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_many_classes_fit_a_screen(tmp_path, capsys):
    make_photos(tmp_path / "photos", 1, tuple(f"class {i}" for i in range(40)))
    assert main(["check", str(tmp_path / "photos")]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 24


def test_a_class_without_photos(photos, capsys):
    (photos / "nothing yet").mkdir()
    assert main(["check", str(photos)]) == 0
    assert "1 classes without photos:\n  nothing yet" in capsys.readouterr().out


def test_photos_without_classes(photos):
    report = check_folder(photos / "left side")
    assert report.counts == {"": {"": 5}} and not report.has_faults and not report.unbalanced
