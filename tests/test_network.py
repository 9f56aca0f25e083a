"""Networks without what models add: they predict, and are what training needs."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Linear, ReLU, Sequential, Trainer
from fastcnn.graph_network import GraphNetwork
from fastcnn.loading import GraphModel
from fastcnn.model import Model
from fastcnn.network import Network
from fastcnn.training.features import split_model

SOURCE = Path(fastcnn.__file__).parent
ABOVE_TRAINING = {
    *("model", "inspection", "onnx_model", "loading", "model_file"),
    *("sequential", "zoo", "estimator", "cli"),
}
BELOW_MODELS = [
    path
    for part in (
        *("io", "layers", "functional", "training"),
        *("plan_cache.py", "network.py", "graph_network.py", "model_format.py"),
    )
    for path in ([SOURCE / part] if part.endswith(".py") else sorted((SOURCE / part).rglob("*.py")))
]
X = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)


class Small(Network):
    """Two layers."""

    def __init__(self):
        self.first, self.last = Linear(4, 8, rng=0), Linear(8, 3, rng=1)

    def forward(self, x):
        return self.last(fastcnn.functional.relu(self.first(x)))


def imported(path: Path) -> set[str]:
    """The modules that a file imports, also in functions and for annotations."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


@pytest.mark.parametrize("path", BELOW_MODELS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_below_models_imports_them(path):
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("fastcnn.")}
    assert not parts & ABOVE_TRAINING


def test_a_network_predicts_and_trains_as_the_same_layers_in_a_model():
    network, model = Small(), Sequential(Linear(4, 8, rng=0), ReLU(), Linear(8, 3, rng=1))
    for net in (network, model):
        net.classes = ["a", "b", "c"]
        net.reproducible = True
        trainer = Trainer(net, SGD(0.5))
        for _ in range(3):
            trainer.step(X, [0, 1, 2, 0, 1, 2])
    assert not isinstance(network, Model)
    np.testing.assert_array_equal(network.predict(X), model.predict(X))
    np.testing.assert_array_equal(network.predict_proba(X), model.predict_proba(X))


def test_settings_of_one_network_are_not_those_of_another():
    first, second = Small(), Small()
    first.tuning, first.classes, first.input_shape, first.reproducible = {"a": "b"}, ["x", "y", "z"], (4,), True
    assert (second.tuning, second.classes, second.input_shape, second.reproducible) == ({}, None, None, False)
    clone = pickle.loads(pickle.dumps(first))
    assert (clone.tuning, clone.classes, clone.input_shape, clone.reproducible) == (
        {"a": "b"},
        ["x", "y", "z"],
        (4,),
        True,
    )


def test_parts_of_a_frozen_network_need_no_model():
    network = Small()
    network.first.freeze()
    body, head = split_model(network, (4,))
    assert type(body) is type(head) is GraphNetwork and repr(head).startswith("GraphNetwork(1 nodes")
    np.testing.assert_array_equal(head(body(X)), network(X))


def test_pickles_of_graph_models_load_under_their_first_names():
    model = GraphModel(Small().graph((4,)))
    model.classes = ["x", "y", "z"]
    text = pickle.dumps(model, 2)
    for name in ("GraphModel", "_Group"):
        module = GraphModel.__module__ if name == "GraphModel" else GraphNetwork.__module__
        assert f"c{module}\n{name}\n".encode() in text
        text = text.replace(f"c{module}\n{name}\n".encode(), f"cfastcnn.model_file\n{name}\n".encode())
    clone = pickle.loads(text)
    assert type(clone) is GraphModel and clone.classes == model.classes
    np.testing.assert_array_equal(clone(X), model(X))
