"""Label files in place of folders: training, evaluating and classifying with one label a photo, and with several."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from photo_folders import spoil, train
from PIL import Image

import fastcnn as fc
from fastcnn.cli import main

LABELS = ("blue", "red")


@pytest.fixture
def photos(tmp_path):
    """Photos that are red, blue, both or neither, as the number of a photo tells."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(32):
        pixels = rng.integers(0, 60, (10, 12, 3), np.uint8)
        pixels[..., 0] += np.uint8(150 * (i & 1))
        pixels[..., 2] += np.uint8(75 * (i & 2))
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02}.png")
    return tmp_path


def names_of(i):
    return ["blue"] * (i >> 1 & 1) + ["red"] * (i & 1)


def write(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def several(photos, form):
    """The same labels in each form that a label file may have."""
    if form == "columns":  # in another order than that of the names
        rows = [f"photos/{i:02}.png,{i & 1},{i >> 1 & 1}" for i in range(32)]
        return write(photos / "a.csv", "path,red,blue", rows)
    between, suffix = {"|": (",", "csv"), ";": (",", "csv"), "tsv": ("\t", "tsv")}[form]
    inside = "|" if form == "tsv" else form
    rows = [f"photos/{i:02}.png{between}{inside.join(names_of(i))}" for i in range(32)]
    return write(photos / f"a.{suffix}", f"path{between}labels", rows)


@pytest.mark.parametrize("form", ["|", ";", "tsv", "columns"])
def test_several_labels_from_training_to_classifying(form, photos, capsys):
    table, model = several(photos, form), str(photos / "m.safetensors")
    settings = ["--learning-rate", "0.02", "--validation", table, "--json"]
    assert main(train(table, model, *settings, epochs=25)) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["accuracy"] == 1 and report["count"] == 32
    saved = fc.load(model)
    assert saved.task == "multi_label" and sorted(saved.classes) == list(LABELS)
    assert main(["evaluate", table, "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("all labels right 100.0 % of 32")
    assert [line.split() for line in lines if line.startswith(("label", *LABELS))][1:] == [
        [name, "100.0", "%", "100", "%", "1.000", "16"] for name in saved.classes
    ]
    names = [str(photos / "photos" / f"{i:02}.png") for i in range(4)]
    assert main(["classify", "--model", model, "--json", *names]) == 0
    for i, answer in enumerate(json.loads(capsys.readouterr().out)):
        assert sorted(entry["label"] for entry in answer["predictions"]) == names_of(i)
        assert all(entry["probability"] > 0.5 for entry in answer["predictions"])
    assert main(["classify", "--model", model, "--top", "1", "--format", "csv", names[0], names[3]]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["rank"] for row in rows] == ["", "1"]  # a photo without labels is answered, too
    assert main(["classify", "--model", model, names[0]]) == 0
    assert "no label above 50 %" in capsys.readouterr().out


def test_a_file_whose_photos_have_one_label_each_fits_a_model_of_several(photos, capsys):
    """The model tells that labels are independent, as no cell of the file does."""
    table, model = several(photos, "|"), str(photos / "m.safetensors")
    assert main(train(table, model, "--learning-rate", "0.02", epochs=25)) == 0
    rows = [f"photos/{i:02}.png,{''.join(names_of(i))}" for i in range(32) if i % 4 < 3]
    assert main(["evaluate", write(photos / "b.csv", "path,label", rows), "--model", model, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.partition("PHOTO\n")[2])
    assert [score["count"] for score in report["scores"]] == [8, 8] and report["count"] == 24
    assert report["accuracy"] > 0.9


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("names", [("no", "yes"), ("1", "2"), ("9", "10")])
def test_one_label_may_be_a_number_that_is_a_name(names, delimiter, photos, capsys):
    rows = [f"photos/{i:02}.png{delimiter}{names[i & 1]}" for i in range(32)]
    table, model = write(photos / "a.csv", f"path{delimiter}label", rows), str(photos / "m.safetensors")
    assert main(train(table, model, "--learning-rate", "0.02", epochs=20)) == 0
    assert fc.load(model).classes == list(names)
    capsys.readouterr()
    assert main(["evaluate", table, "--model", model, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["accuracy"] == 1 and [score["label"] for score in report["scores"]] == list(names)
    rows = [f"photos/00.png{delimiter}{names[0]}", f"photos/01.png{delimiter}0"]
    assert main(["evaluate", write(photos / "b.csv", f"path{delimiter}label", rows), "--model", model]) == 2
    assert f"b.csv: line 3: the label '0', expected one of {', '.join(names)}" in capsys.readouterr().err


def test_broken_photos_are_left_out_and_a_label_without_photos_is_named(photos, capsys):
    rows = [f"photos/{i:02}.png,{'|'.join(names_of(i))}" for i in range(31)] + ["photos/31.png,round|red"]
    table = write(photos / "a.csv", "path,label", rows)
    spoil(photos / "photos", "04.png", "08.png")
    assert main(train(table, photos / "m")) == 0
    assert "2 of 32 photos cannot be read and are left out" in capsys.readouterr().err
    spoil(photos / "photos", "31.png")
    assert main(train(table, photos / "m")) == 2
    assert "none is left of class 'round'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"photos/00.png,cat\nphotos/01.png,dog\n", "a.csv: line 1: 'photos/00.png', expected names of columns"),
        (b"path,label\nphotos/00.png,cat\n\nphotos/01.png\n", "a.csv: line 4: 1 cells, expected 2"),
        (b'path,label,note\nphotos/00.png,cat,"two\nlines"\nphotos/01.png,,\n', "a.csv: line 4: no label"),
        (b"path,label\nphotos/00.png,cat\n,dog\n", "a.csv: line 3: no path"),
        (b"path,label\nphotos/00.png,cat\nphotos/00.png,dog\n", "a.csv: line 3: "),
        (b"path,label\nphotos/00.png,cat\nphotos/01.png,cat\n", "a.csv: one class only, 'cat', expected at least two"),
        (b"path,cat,cat\nphotos/00.png,0,1\n", "a.csv: line 1: two columns 'cat'"),
        (b"path,cat,dog\nphotos/00.png,0,1\nphotos/01.png,2,1\n", "a.csv: line 3: the column 'cat' has '2', expected"),
        (b"path,label\nno.png,cat\nphotos/not.png,dog\n", "a.csv: line 2: there is no file"),
        (b"path,label\nphotos/00.png,caf\xe9\n", "a.csv: no text in UTF-8"),
        (b"path,label\n" + b"p" * 140_000 + b",cat\n", "a.csv: line 2: field larger than field limit"),
        (b"", "a.csv: 0 lines"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(content, message, photos, capsys):
    (photos / "a.csv").write_bytes(content)
    assert main(train(photos / "a.csv", photos / "m")) == 2
    output = capsys.readouterr()
    assert message in output.err and output.out == "" and not (photos / "m").exists()


def test_columns_that_are_not_the_labels_of_a_network_are_refused(photos):
    model = fc.zoo.small_cnn(2, 3, 8)
    model.classes, model.task = list(LABELS), "multi_label"
    rows = ["photos/00.png,0,1"]
    with pytest.raises(ValueError, match="the column 'read', expected one of blue, red, did you mean red"):
        model.evaluate(write(photos / "a.csv", "path,blue,read", rows))
    rows = ["photos/00.png,0,1,1"]
    with pytest.raises(ValueError, match="the column 'x', expected one of"):
        model.evaluate(write(photos / "a.csv", "path,blue,red,x", rows))
    model.classes = ["blue", "green", "red"]
    with pytest.raises(ValueError, match="no column 'green', expected one for each class"):
        model.evaluate(write(photos / "a.csv", "path,blue,red", ["photos/00.png,0,1"]))


class Frame:
    """As a data frame of pandas'."""

    def __init__(self, **columns):
        self.columns, self._cells, self.iloc = list(columns), columns, None

    def __getitem__(self, name):
        return np.array(self._cells[name], object)


def test_a_missing_label_of_a_data_frame_is_no_class(photos):
    frame = Frame(path=[str(photos / "photos" / f"0{i}.png") for i in range(3)], label=["a", float("nan"), "b"])
    with pytest.raises(ValueError, match="the data frame: row 2: no label"):
        fc.zoo.small_cnn(2, 3, 8).fit(frame, epochs=1)
