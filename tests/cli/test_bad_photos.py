"""Photos that cannot be read: all are found and named at once, before anything is learned."""

from __future__ import annotations

import json

import numpy as np
import pytest
from photo_folders import make_photos, spoil, train
from PIL import Image
from screen_of_text import LINES, lines_of

import fastcnn
from fastcnn.cli import main
from fastcnn.errors import ImageError
from fastcnn.io import _load
from fastcnn.io._load import examine_file, load_image
from fastcnn.io.preprocess import Preprocess
from fastcnn.training.screen import Unreadable, describe_unreadable


@pytest.fixture
def photos(tmp_path):
    folder = make_photos(tmp_path / "photos", 20)
    spoil(folder, "left side/3.jpg", "right side/7.jpg", "right side/8.jpg")
    return folder


def test_training_leaves_them_out_and_names_all(photos, tmp_path, capsys):
    assert main(train(photos, tmp_path / "m")) == 0
    message = capsys.readouterr().err
    assert "3 of 40 photos cannot be read and are left out:" in message and "29 photos to learn from, 8" in message
    assert all(name in message for name in ("left side/3.jpg", "right side/7.jpg", "right side/8.jpg"))
    assert fastcnn.load(tmp_path / "m").classes == ["left side", "right side"]


def test_evaluating_leaves_them_out_and_names_all(photos, tmp_path, capsys):
    assert main(train(photos, tmp_path / "m")) == 0
    capsys.readouterr()
    assert main(["evaluate", "--model", str(tmp_path / "m"), str(photos), "--json"]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["count"] == 37 and len(found["left_out"]) == 3 and output.err.count(".jpg") == 3
    assert main(["evaluate", "--model", str(tmp_path / "m"), str(photos), "--on-error", "stop"]) == 2
    assert capsys.readouterr().err.count(".jpg") == 3


@pytest.mark.parametrize(
    ("spoilt", "arguments", "message"),
    [
        ([], ["--on-error", "stop"], "3 of 40 photos cannot be read:"),
        (["left side/4.jpg", "left side/5.jpg"], [], "5 of 40 photos cannot be read; at most 10% are left out"),
    ],
)
def test_training_stops_where_it_shall(spoilt, arguments, message, photos, tmp_path, capsys):
    spoil(photos, *spoilt)
    assert main(train(photos, tmp_path / "m", *arguments)) == 2
    output = capsys.readouterr().err
    assert message in output and output.count(".jpg") == 3 + len(spoilt) and not (tmp_path / "m").exists()


def test_a_class_without_readable_photos_is_named(photos, tmp_path, capsys):
    (photos / "third").mkdir()
    spoil(photos, "third/0.jpg")
    assert main(train(photos, tmp_path / "m")) == 2
    assert "none is left of class 'third'" in capsys.readouterr().err


def test_a_validation_folder_is_examined_too(photos, tmp_path, capsys):
    learn = make_photos(tmp_path / "learn", 4)
    assert main(train(learn, tmp_path / "m", "--validation", str(photos))) == 0
    message = capsys.readouterr().err
    assert message.count(".jpg") == 3 and "8 photos to learn from, 37 to examine" in message


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded, in the order in which they are."""
    files = []

    def counted(decode):
        def call(source, *arguments, **settings):
            files.append(source.name)
            return decode(source, *arguments, **settings)

        return call

    for name in ("decode", "examine"):
        monkeypatch.setattr(f"fastcnn.io._load.{name}", counted(getattr(_load, name)))
    return files


@pytest.mark.parametrize("augment", [None, fastcnn.Augment(), fastcnn.Augment(crop=1)])
def test_what_is_screened_is_not_decoded_again(augment, tmp_path, decoded):
    folder = make_photos(tmp_path / "photos", 10)
    model = fastcnn.zoo.small_cnn(2, 3, 8)
    model.fit(folder, epochs=2, validation=0.2, augment=augment)
    assert len(decoded) == len(set(decoded)) == 20
    for use in (lambda: model.evaluate(folder), lambda: model.predict(sorted(folder.rglob("*.jpg")))):
        decoded.clear()
        use()
        assert len(decoded) == len(set(decoded)) == 20


def test_commands_decode_photos_once(tmp_path, decoded):
    folder = make_photos(tmp_path / "photos", 20)
    spoil(folder, "left side/3.jpg")
    assert main(train(folder, tmp_path / "m", "--on-error", "skip", epochs=2)) == 0
    assert len(set(decoded)) == 40 and len(decoded) <= 42  # what is left out changes the use of few others
    decoded.clear()
    assert main(["evaluate", "--model", str(tmp_path / "m"), str(folder)]) == 0
    assert len(decoded) == len(set(decoded)) == 40


def test_copies_that_are_averaged_decode_photos_once(tmp_path, decoded):
    photos = sorted(make_photos(tmp_path / "photos", 3).rglob("*.jpg"))
    model = fastcnn.zoo.small_cnn(2, 3, 8)
    model.preprocess = Preprocess(8)
    model.tta(photos, times=4)
    assert len(decoded) == 2 * len(photos)  # once as it is, and once to be cropped


SPOILT = (
    lambda whole: whole[: len(whole) // 2],
    lambda whole: whole[:20],
    lambda whole: b"",
    lambda whole: b"no photo, but text",
    lambda whole: b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + whole,
    lambda whole: b"<!DOCTYPE html><html>the photo has moved</html>",
    lambda whole: bytes(len(whole)),
    lambda whole: whole[len(whole) // 2 :],
)


def test_thousands_of_photos_with_bad_ones_train(tmp_path, capsys, budget):
    """One photo in fifty is spoilt: truncated, empty, of another kind; each is named, with --json its reason, too."""
    folder, count = tmp_path / "photos", budget(200, 2000)
    make_photos(folder, count // 2)
    bad = sorted(f"{('left side', 'right side')[i % 2]}/{25 * i % (count // 2)}.jpg" for i in range(count // 50))
    assert len(set(bad)) == count // 50
    for i, name in enumerate(bad):
        (folder / name).write_bytes(SPOILT[i % len(SPOILT)]((folder / name).read_bytes()))
    assert main(train(folder, tmp_path / "m", "--json", epochs=1)) == 0
    output = capsys.readouterr()
    assert f"{len(bad)} of {count} photos cannot be read and are left out:" in output.err
    assert all(name in output.err for name in bad) and len(output.err.splitlines()) <= 24
    found = json.loads(output.out)
    assert sorted(photo["path"] for photo in found["left_out"]) == [str(folder / name) for name in bad]
    assert all(photo["reason"] for photo in found["left_out"])
    assert fastcnn.load(tmp_path / "m").classes == ["left side", "right side"]


@pytest.mark.parametrize(("count", "lines"), [(8, 9), (9, 7), (40, 22), (3000, 23)])
def test_a_list_fits_a_screen(count, lines):
    found = [Unreadable(f"a class of photos {i % 2}/a photo {i:04}.jpg", "empty") for i in range(count)]
    text = describe_unreadable(found, 4000)
    assert len(text.splitlines()) == lines and lines_of(text) <= LINES
    assert ("fastcnn check --json lists all" in text) == (count == 3000)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif", ".bmp"])
def test_what_is_examined_is_what_is_read(suffix, tmp_path):
    """A quick look finds what reading all of the pixels finds."""
    photo = tmp_path / f"photo{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)).save(photo)
    facts = examine_file(photo)
    assert (facts.width, facts.height, facts.orientation) == (200, 300, 1) and facts.thumbnail.shape == (16, 16, 3)
    whole = photo.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - len(whole) // 10):
        photo.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            load_image(photo)
        with pytest.raises(ImageError, match=photo.name):
            examine_file(photo)
