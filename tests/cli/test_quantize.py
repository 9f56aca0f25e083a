"""`fastcnn quantize`: a model in 8 bits from a model and a folder of photos."""

from __future__ import annotations

import json

import pytest
from photo_folders import make_photos, spoil, train

import fastcnn as fc
from fastcnn.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    photos, model = make_photos(folder / "photos", 12), folder / "m.safetensors"
    assert main(train(photos, model, "--learning-rate", "0.01", epochs=8)) == 0
    return str(photos), str(model)


def test_from_photos_to_a_small_model(trained, tmp_path, capsys):
    photos, model = trained
    small, reports = (
        tmp_path / "small.safetensors",
        [str(tmp_path / f"report{end}") for end in (".txt", ".json", ".png")],
    )
    options = [part for path in reports for part in ("--report", path)]
    assert main(["quantize", model, photos, "-o", str(small), "--accuracy", photos, "--method", "mse", *options]) == 0
    printed = capsys.readouterr()
    assert "layers in 8 bits, calibrated by mse with 24 inputs" in printed.out and "accuracy" in printed.out
    texts = [(tmp_path / f"report{end}").read_bytes() for end in (".txt", ".json", ".png")]
    assert texts[0].decode() == printed.out and texts[2].startswith(b"\x89PNG")
    told = json.loads(texts[1])
    loaded = fc.load(small)
    assert told["accuracy"] == loaded.evaluate(photos).accuracy >= told["float_accuracy"] - 0.05
    assert loaded.classes == ["left side", "right side"] and loaded.preprocess == fc.load(model).preprocess
    assert small.stat().st_size < 0.5 * (tmp_path / model).stat().st_size
    assert main(["classify", "--model", str(small), f"{photos}/left side/1.jpg"]) == 0
    assert main(["info", str(small)]) == 0 and "int8" in capsys.readouterr().out


def test_json_skipped_layers_and_the_drop(trained, tmp_path, capsys):
    photos, model = trained
    arguments = ["quantize", model, photos, "-o", str(tmp_path / "m.onnx"), "--json", "--samples", "5"]
    assert main([*arguments, "--skip", "*1*", "--max-drop", "0"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 5 and told["drop"] <= 0
    assert {layer["type"] for layer in told["layers"] if "1" in layer["name"]} == {"float32"}
    assert fc.load(tmp_path / "m.onnx").evaluate(photos).accuracy > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "m.txt"], "m.txt: unknown format"),
        (["-o", "no/where/m"], "no/where"),
        (["-o", "m", "--report", "r.xyz"], "--report r.xyz: unknown format"),
        (["-o", "m", "--skip", "conv77"], "skip='conv77', expected one of"),
        (["-o", "m", "--accuracy", "missing"], "missing"),
        (["-o", "m", "--max-drop", "-1"], "--max-drop: -1, expected a number, 0 or more"),
        (["-o", "m", "--method", "max"], "--method: invalid choice: 'max'"),
    ],
)
def test_errors_come_before_the_calibration(trained, tmp_path, capsys, monkeypatch, options, message):
    photos, model = trained
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", model, photos, *options]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_broken_photos_are_left_out_and_told(tmp_path, trained, capsys):
    photos = make_photos(tmp_path / "photos", 12)
    spoil(photos, "left side/3.jpg")
    assert main(["quantize", trained[1], str(photos), "-o", str(tmp_path / "m")]) == 0
    printed = capsys.readouterr()
    assert "left side/3.jpg" in printed.err and "with 23 inputs" in printed.out
    assert main(["quantize", trained[1], str(photos), "-o", str(tmp_path / "n"), "--on-error", "stop"]) == 2
    assert not (tmp_path / "n").exists()
