"""What the studio tells of a trained network: every photo, heat maps, layers, files to take elsewhere."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from photo_folders import make_photos
from PIL import Image

import fastcnn
from fastcnn._web import Refused
from fastcnn.model import Model
from fastcnn.studio.examined import examined, likely_wrong, photos_of
from fastcnn.studio.exports import exported, formats_of
from fastcnn.studio.listing import key_of, listing_of
from fastcnn.studio.looking import layer_pictures, look
from fastcnn.studio.models import Models
from fastcnn.studio.runs import Runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a small network; among the photos is one that cannot be read."""
    root = make_photos(tmp_path_factory.mktemp("trained") / "photos", 16, ("left", "right"))
    (root / ".fastcnn" / "runs").mkdir(parents=True)
    settings = {"network": "small_cnn", "epochs": 4, "name": "Sides & more"}
    made = Runs(root / ".fastcnn" / "runs").start(root, listing_of(root), settings)
    made._process.wait(300)
    return made


@pytest.fixture(scope="module")
def model(run):
    return Models().of(run)[0]


def picture(address):
    kind, _, content = address.partition(",")
    assert kind.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def photo_of(run, index=0):
    return run.folder / "photos" / photos_of(run)[index][0]


def test_every_photo_is_examined_and_the_answer_kept(run, model, monkeypatch):
    done = []
    found = examined(run, model, "stamp", lambda count, of: done.append((count, of)))
    assert done[-1] == (32, 32) and len(found["photos"]) == 32
    kept_back = [photo for photo in found["photos"] if photo["examines"]]
    confusion = np.zeros((2, 2), int)
    for photo in kept_back:
        confusion[photo["label"], photo["predicted"]] += 1
        assert found["classes"][photo["label"]] == photo["name"].split("/")[0]
        assert photo["id"] == key_of(photo["name"])
    assert confusion.tolist() == found["report"]["confusion"] == run.log.end["report"]["confusion"]
    assert found["report"]["accuracy"] == run.summary()["accuracy"]
    monkeypatch.setattr(Model, "predict_proba", lambda *_: pytest.fail("was kept"))
    assert examined(run, model, "stamp", lambda *_: None) == found


def test_a_photo_that_is_gone_is_left_out(run, model):
    path = photo_of(run)
    content = path.read_bytes()
    path.unlink()
    try:
        found = examined(run, model, "another", lambda *_: None)
    finally:
        path.write_bytes(content)
    assert len(found["photos"]) == 31 and 0 not in [photo["index"] for photo in found["photos"]]


def test_labels_that_are_likely_wrong_are_found_and_others_not():
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(3, 16), 30, axis=0) + rng.normal(0, 0.15, (90, 16))
    labels = np.repeat(np.arange(3), 30)
    assert likely_wrong(features, labels, 3) == []
    labels[[4, 40]] = 2, 0
    assert sorted(found[:2] for found in likely_wrong(features, labels, 3)) == [(4, 0), (40, 1)]
    labels[4] = -1  # does not count
    assert [found[0] for found in likely_wrong(features, labels, 3)] == [40]
    assert likely_wrong(features[:3], labels[:3], 3) == []


def test_a_photo_is_looked_at(run, model):
    told = look(model, photo_of(run), None)
    assert told["label"] == told["top"][0]["label"] and len(told["top"]) == 2
    assert sum(each["probability"] for each in told["top"]) == pytest.approx(1, abs=1e-5)
    height, width = told["size"]
    assert picture(told["image"]).shape == (height, width, 3)
    heat = picture(told["heat"])
    opacity = heat[..., 3]  # the photo shows where there is no heat
    assert heat.shape == (height, width, 4) and opacity[tuple(told["strongest"])] == opacity.max() > 200 > opacity.min()
    other = told["top"][1]["label"]
    assert look(model, photo_of(run), other)["label"] == other
    with pytest.raises(Refused, match="none of the model's classes"):
        look(model, photo_of(run), "bird")


def test_each_layer_has_pictures(run, model):
    found = layer_pictures(model, photo_of(run))
    kinds = [layer["kind"] for layer in found["layers"]]
    assert kinds[0] == "Conv" and "Relu" in kinds and "MaxPool" in kinds
    maps = model.feature_maps(str(photo_of(run)), [found["layers"][0]["name"]])
    assert found["layers"][0]["shape"] == list(next(iter(maps.values())).shape[1:])
    for layer in found["layers"]:
        assert len(layer["maps"]) == min(12, layer["shape"][0])
        assert picture(layer["maps"][0]).shape[:2] == tuple(layer["shape"][1:])
    assert picture(found["filters"][0]).shape == (3, 3, 3)


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_exports_are_the_model(run, model, kind, tmp_path):
    name, content = exported(run, model, kind)
    assert name == f"sides-more.{kind}"
    (tmp_path / name).write_bytes(content)
    photo = str(photo_of(run))
    expected = model.classify(photo)
    found = fastcnn.load(tmp_path / name).classify(photo)
    assert [each.label for each in found] == [each.label for each in expected]
    assert found[0].probability == pytest.approx(expected[0].probability, abs=1e-5)


def test_eight_bits_are_offered_where_models_have_them(run, model, monkeypatch):
    given = []

    def quantize(self, photos):
        given.extend(photos)
        return self

    monkeypatch.delattr(Model, "quantize", raising=False)
    assert formats_of() == ["safetensors", "onnx"]
    with pytest.raises(Refused, match="expected one of safetensors, onnx"):
        exported(run, model, "quantised")
    monkeypatch.setattr(Model, "quantize", quantize, raising=False)
    assert formats_of() == ["safetensors", "onnx", "quantised"]
    assert exported(run, model, "quantised")[0] == "sides-more-int8.safetensors"
    learned = {run.folder / "photos" / name for name, is_kept_back in photos_of(run) if not is_kept_back}
    assert given and set(given) <= learned


def test_a_model_is_loaded_once_and_anew_after_it_changed(run):
    models = Models()
    first, stamp = models.of(run)
    assert models.of(run) == (first, stamp)
    path = run.model_path
    path.write_bytes(path.read_bytes())
    again, other = models.of(run)
    assert again is not first and other != stamp
