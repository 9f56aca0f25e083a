"""Letterboxes and grey photos on the command line, and networks of one channel everywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
from photo_folders import make_photos, train

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.io.image import Preprocess
from fastcnn.training.folders import class_folders


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 12)


def test_a_letterbox_from_training_to_classifying(photos, tmp_path, capsys):
    model = str(tmp_path / "m")
    assert main(train(photos, model, "--resize", "letterbox", "--padding", "114")) == 0
    preprocess = fc.load(model).preprocess
    assert (preprocess.resize, preprocess.padding) == ("letterbox", (114, 114, 114))
    assert main(["info", model]) == 0 and "resize=letterbox" in capsys.readouterr().out
    photo = str(photos / "left side" / "0.jpg")

    def answer(*options):
        assert main(["classify", "--model", model, "--json", photo, *options]) == 0
        return {p["label"]: p["probability"] for p in json.loads(capsys.readouterr().out)[0]["predictions"]}

    loaded = fc.load(model)
    for options, settings in (
        ([], {}),
        (["--padding", "0,50,255"], {"padding": (0, 50, 255)}),
        (["--resize", "stretch"], {"resize": "stretch", "padding": None}),
    ):
        loaded.preprocess = Preprocess.from_dict({**preprocess.to_dict(), **settings})
        assert answer(*options) == pytest.approx({p.label: p.probability for p in loaded.classify(photo)}, rel=1e-5)
    assert main(["evaluate", "--model", model, str(photos), "--resize", "crop"]) == 0


@pytest.mark.parametrize("options", [["--grey"], ["--grey", "--network", "lenet"]])
def test_grey_networks(options, photos, tmp_path, capsys):
    model = str(tmp_path / "m")
    arguments = train(photos, model, *options, "--learning-rate", "0.01", epochs=15)
    if "lenet" in options:
        del arguments[4:6]  # the network has a size of its own
    assert main(arguments) == 0
    loaded = fc.load(model)
    assert loaded.input_shape[0] == 1 and loaded.preprocess.channels == 1
    capsys.readouterr()
    assert main(["evaluate", "--model", model, str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9
    photo = str(photos / "right side" / "3.jpg")
    assert main(["classify", "--model", model, "--json", photo]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["predictions"][0]["label"] == "right side"
    paths = [str(path) for group in class_folders(photos).values() for path in group]
    assert np.array_equal(loaded.predict_proba(photos), loaded.predict_proba(paths))
    assert (loaded.predict(paths) == np.repeat(["left side", "right side"], 12)).mean() > 0.9
    assert loaded.evaluate(photos).count == 24
    # What a plan looks up in a table is what is computed before it.
    numbers = np.concatenate([loaded.preprocess(path) for path in paths])
    np.testing.assert_allclose(loaded.predict_proba(numbers), loaded.predict_proba(paths), rtol=1e-5)


def test_a_grey_network_learns_from_a_folder_in_python(photos):
    model = fc.zoo.small_cnn(2, 1, 16, rng=0)
    history = model.fit(photos, epochs=15, batch_size=8, augment=fc.Augment(flip=False), optimizer=fc.Adam(0.01))
    assert history["accuracy"][-1] > 0.7 and model.preprocess.channels == 1


def test_a_classifier_of_grey_arrays_takes_photos():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 90, (40, 12, 12), np.uint8)
    images[:20, :, :6] += 120
    labels = np.repeat(["left", "right"], 20)
    classifier = fc.ImageClassifier(epochs=20, augment=None, random_state=0).fit(images, labels)
    assert classifier.score(images, labels) > 0.9
    assert classifier.model_.classify(np.repeat(images[0][..., None], 3, axis=2))[0].label == "left"


def test_a_classifier_of_grey_photos(photos):
    paths = [str(path) for group in class_folders(photos).values() for path in group]
    labels = np.repeat(["left", "right"], 12)
    classifier = fc.ImageClassifier(input_shape=(1, 16, 16), epochs=1, random_state=0).fit(paths, labels)
    assert classifier.model_.preprocess.channels == 1 and classifier.predict_proba(paths).shape == (24, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{photos}", "-o", "m", "--padding", "3"], "--padding: expected with --resize letterbox"),
        (["train", "{photos}", "-o", "m", "--resize", "letterbox", "--padding", "3,4"], "padding=(3, 4), expected"),
        (["train", "{photos}", "-o", "m", "--resize", "letterbox", "--padding", "1.5"], "expected whole numbers"),
        (["train", "{photos}", "-o", "m", "--resize", "fit"], "invalid choice: 'fit', expected one of crop"),
        (["train", "{photos}", "-o", "m", "--pretrained", "efficientnet_lite0", "--grey"], "takes colours"),
        (["classify", "{photos}", "--model", "{grey}", "--mean", "0.5"], "no mean and std are usual"),
        (["classify", "{photos}", "--model", "{grey}", "--mean", "0.5,0.5,0.5", "--std", "1"], "takes grey photos"),
    ],
)
def test_what_cannot_be_is_told(arguments, message, photos, capsys, tmp_path):
    grey = fc.zoo.lenet(num_classes=2)
    grey.save(tmp_path / "grey.safetensors")
    assert main([word.format(photos=photos, grey=tmp_path / "grey.safetensors") for word in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_grey_model_that_tells_nothing_takes_options(photos, tmp_path, capsys):
    grey = fc.zoo.lenet(num_classes=2, rng=0)
    grey.save(tmp_path / "grey.onnx")
    photo = str(photos / "left side" / "0.jpg")
    command = [
        "classify",
        "--model",
        str(tmp_path / "grey.onnx"),
        photo,
        "--json",
        "--mean",
        "0.1307",
        "--std",
        "0.3081",
    ]
    assert main(command) == 0
    grey.preprocess = Preprocess(28, mean=(255 * 0.1307,), std=(255 * 0.3081,))
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["predictions"][0]["probability"] == pytest.approx(grey.classify(photo)[0].probability, rel=1e-5)


def test_a_checkpoint_knows_what_photos_became(photos, tmp_path, capsys):
    def run(*options):
        arguments = ["--checkpoint", str(tmp_path / "run"), "--resume", *options]
        return main(train(photos, tmp_path / "m", *arguments))

    assert run() == run() == 0
    capsys.readouterr()
    assert run("--resize", "letterbox") == 2
    message = capsys.readouterr().err
    assert "resize=letterbox" in message and "resize=crop" in message and "allow_changed='preprocess'" in message
    assert run("--resize", "letterbox", "--allow-changed", "preprocess") == 0
