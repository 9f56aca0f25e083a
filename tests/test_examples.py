"""The examples: what their functions return, and that they run as scripts."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastcnn

EXAMPLES = Path(__file__).parent.parent / "examples"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def steps() -> ModuleType:
    return load_example("how_classifiers_work")


def test_the_image_is_numbers_from_0_to_255(steps):
    image = steps.make_image()
    assert image.shape == (3, 32, 32) and image.min() == 0 and image.max() == 255


def test_the_filter_finds_the_vertical_line(steps):
    found = steps.find_vertical_lines(steps.make_image())
    assert found.shape == (30, 30)
    assert (found.argmax(axis=1) == 15).all()  # column 16 of the image: a 3x3 filter loses one on each side
    assert (found[:, 14] < 0).all() and (found[:, 16] < 0).all()
    assert not found[:, :14].any() and not found[:, 17:].any()


def test_the_filter_does_not_find_a_horizontal_line(steps):
    lying = steps.make_image().transpose(0, 2, 1)
    assert not steps.find_vertical_lines(lying).any()


def test_relu_keeps_what_is_positive(steps):
    values = np.array([[-3, 0, 2.5], [7, -0.5, 1]], np.float32)
    assert steps.keep_positive(values).tolist() == [[0, 0, 2.5], [7, 0, 1]]


def test_pooling_keeps_the_largest_of_each_square(steps):
    matrix = np.array([[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]], np.float32)
    small = steps.shrink(matrix)
    assert small.tolist() == [[20, 30], [112, 37]]
    assert small.size == matrix.size * (1 - 0.75)


def test_the_network_is_the_example_network(steps):
    network = steps.build_network()
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == [
        *("Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "ReLU"),
        *("Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"),
    ]


def test_the_answer_is_a_class_or_probabilities(steps):
    label, probabilities = steps.ask(steps.build_network(), steps.make_image())
    assert list(probabilities) == steps.CLASSES
    assert sum(probabilities.values()) == pytest.approx(1)
    assert label == max(probabilities, key=probabilities.__getitem__)


# What an example must print, as a pattern, and the least (or, if negative, the most) that its number may be.
CLAIMS = {
    "digits.py": [(r"recognises ([\d.]+) %", 98), (r"in ([\d.]+) s", -30)],
    "train_on_photos.py": [(r"accuracy on photos it did not learn from: (\d+) %", 80), (r"accuracy ([\d.]+) %", 80)],
    "transfer_learning.py": [(r"accuracy ([\d.]+) % of 60", 90)],
    "grid_search.py": [(r"([\d.]+) %", 75)],
}


def test_tutorials_have_a_place_on_the_site_and_end_in_a_picture():
    order = (EXAMPLES.parent / "docs" / "gallery.py").read_text(encoding="utf-8")
    tutorials = [path for path in EXAMPLES.glob("*.py") if path.name != "photos.py"]
    assert {path.name for path in tutorials} == set(re.findall(r'(?m)^    "(\w+\.py)",$', order))
    for path in tutorials:
        assert re.search(r"plt\.show\(\)|\.plot\(\)", path.read_text(encoding="utf-8").rstrip().splitlines()[-1]), path


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_run(script):
    source = str(Path(fastcnn.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout and all(line.startswith("epoch ") for line in result.stderr.splitlines()), result.stderr
    for pattern, limit in CLAIMS.get(script.name, []):
        number = float(re.search(pattern, result.stdout)[1])
        assert number >= limit if limit > 0 else number <= -limit, result.stdout
