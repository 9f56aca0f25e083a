"""`fastcnn explain`: a page that holds all it shows and runs nothing, a picture of the same, and what is refused."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.io.image import Preprocess

CAT = Path(__file__).parents[2] / "examples" / "cat.png"
HOSTILE = "<script>alert(1)</script>\"'$\\frac{"


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def model(tmp_path):
    network = fc.zoo.small_cnn(rng=0, image_size=32, num_classes=3)
    network.preprocess, network.classes = Preprocess(size=32), ["cat", HOSTILE, "dog"]
    network.save(tmp_path / "net.safetensors")
    return str(tmp_path / "net.safetensors")


def explain(*arguments):
    return main(["explain", *map(str, arguments)])


def test_a_page_holds_all_it_shows(model, tmp_path, capsys):
    assert explain(CAT, "--model", model, "-o", tmp_path / "cat.html", "--label", HOSTILE) == 0
    output = capsys.readouterr().out
    assert "%  cat" in output and "why <script>" in output
    page = (tmp_path / "cat.html").read_text(encoding="utf-8")
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe", "object", "form"})
    assert not any(name.startswith("on") or name in ("href", "action") for _, attrs in reader.tags for name in attrs)
    sources = [attrs["src"] for tag, attrs in reader.tags if tag == "img"]
    assert len(sources) > 8 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attrs["alt"] for tag, attrs in reader.tags if tag == "img")
    assert not re.search(r"https?://|@import|url\(", page)
    assert f"why {HOSTILE}" in reader.text and sum(tag == "meter" for tag, _ in reader.tags) == 3
    pictures = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]
    assert pictures[0].size == (32, 32) == pictures[1].size
    seen = np.asarray(pictures[0])
    np.testing.assert_array_equal(seen, Preprocess(size=32).pixels(str(CAT)))


def test_the_layers_of_a_page_are_steps(model, tmp_path):
    assert explain(CAT, "--model", model, "-o", tmp_path / "all.html") == 0
    text = " ".join(Reader((tmp_path / "all.html").read_text(encoding="utf-8")).text)
    network = fc.load(model)
    convolutions = [layer.name for layer in fc.explain.layers(network) if layer.op == "Conv"]
    assert convolutions and all(name in text for name in convolutions)
    assert "behind Relu" in text


def test_named_layers_alone(model, tmp_path, capsys):
    names = [layer.name for layer in fc.explain.layers(fc.load(model))][:2]
    assert explain(CAT, "--model", model, "-o", tmp_path / "two.html", "--layers", ",".join(names)) == 0
    assert "2 layers" in capsys.readouterr().out
    reader = Reader((tmp_path / "two.html").read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in reader.tags) == 5  # and the photo, the heat and the filters


def test_a_picture_of_the_same(model, tmp_path):
    assert explain(CAT, "--model", model, "-o", tmp_path / "cat.png", "--label", 1, "--heat", "occlusion") == 0
    picture = np.asarray(Image.open(tmp_path / "cat.png"))
    assert picture.shape[1] == 1200 and picture.std() > 20


def test_networks_without_places_have_heat_by_occlusion(tmp_path, capsys):
    network = fc.Sequential(fc.Flatten(), fc.Linear(8 * 8 * 3, 2, rng=0))
    network.input_shape, network.preprocess = (3, 8, 8), Preprocess(size=8)
    network.save(tmp_path / "flat.safetensors")
    assert explain(CAT, "--model", tmp_path / "flat.safetensors", "-o", tmp_path / "flat.html") == 0
    text = " ".join(Reader((tmp_path / "flat.html").read_text(encoding="utf-8")).text)
    assert "occlusion, as Grad-CAM takes no network like this one: no layer has places" in text
    assert "0 layers" in capsys.readouterr().out


def test_tokens_and_grey_photos(tmp_path):
    network = fc.zoo.vit_tiny_patch16(num_classes=2, image_size=32, rng=0)
    network.preprocess = Preprocess(size=32)
    network.save(tmp_path / "tokens.safetensors")
    digits = fc.zoo.lenet(rng=0)
    digits.preprocess = Preprocess(size=28, mean=(127.0,), std=(128.0,))
    digits.save(tmp_path / "digits.onnx")
    for name in ("tokens.safetensors", "digits.onnx"):
        assert explain(CAT, "--model", tmp_path / name, "-o", tmp_path / "page.html") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "cat.pdf"), "-o cat.pdf: expected a name that ends in .html or .png"),
        (("-o", "none/cat.html"), "none/cat.html"),
        (("-o", "cat.html", "--label", "dgo"), "--label: label='dgo', expected one of cat"),
        (("-o", "cat.html", "--label", "3"), "--label: label=3, expected a number from 0 to 2"),
        (("-o", "cat.html", "--layers", "convv"), "no layer is called 'convv'"),
        (("-o", "cat.html", "--model", "nothing.onnx"), "is neither a file nor a model"),
    ],
)
def test_what_is_refused_leaves_no_file(arguments, message, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert explain(CAT, "--model", model, *arguments) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_broken_photo_is_named(model, tmp_path, capsys):
    (tmp_path / "no.jpg").write_bytes(b"no photo")
    assert explain(tmp_path / "no.jpg", "--model", model, "-o", tmp_path / "page.html") == 2
    assert "no.jpg: no image" in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_help_names_all_options(capsys):
    assert main(["explain", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(option in told for option in ("--layers", "--label", "--heat", "--model", "-o FILE", "--threads"))
