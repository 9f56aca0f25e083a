"""Saved models: equal after loading, changeable, and every kind of damage named."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Graph
from fastcnn.io.image import Preprocess
from fastcnn.io.weights import read_safetensors, write_safetensors
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU
from fastcnn.loading import GraphModel, load
from fastcnn.model import Model
from fastcnn.sequential import Sequential

SHAPE = (3, 6, 5)
IMAGES = np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32)
PREPROCESS = Preprocess((6, 5), 1.0, "bilinear", (127.0,) * 3, (64.0,) * 3)


def net() -> Model:
    stem = Sequential(Conv2d(3, 8, 3, 2, padding="same", rng=1), BatchNorm2d(8), ReLU())
    model = Sequential({"stem": stem, "flatten": Flatten(), "fc": Linear(8 * 9, 4, rng=2)})
    model.input_shape = SHAPE
    return model


@pytest.fixture
def saved(tmp_path):
    """A saved model: the model, and the path."""
    model = net()
    model.classes, model.preprocess = ["cat", "dog", "hörse", "bird"], PREPROCESS
    path = tmp_path / "net.safetensors"
    model.save(path)
    return model, path


def test_a_loaded_model_is_the_saved_one(saved):
    model, path = saved
    loaded = load(path)
    assert isinstance(loaded, GraphModel) and repr(loaded) == f"GraphModel({loaded.extra_repr()})"
    assert (loaded(IMAGES) == model(IMAGES)).all()
    assert loaded.predict(IMAGES).tolist() == model.predict(IMAGES).tolist()
    assert (loaded.classes, loaded.input_shape, loaded.preprocess) == (model.classes, SHAPE, PREPROCESS)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, array in loaded.state_dict().items():
        assert (array == model.state_dict()[name]).all() and not array.flags.writeable
    assert [n for n, _ in loaded.named_buffers()] == [n for n, _ in model.named_buffers()]
    assert [row.name for row in loaded.summary().rows] == [row.name for row in model.summary().rows]


def test_a_loaded_model_can_be_changed_nested_copied_and_saved_again(saved, tmp_path):
    model, path = saved
    loaded = load(path)
    state = {name: array * 2 for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    loaded.load_state_dict(state)
    expected = model(IMAGES)
    assert (loaded(IMAGES) == expected).all()
    assert (copy.deepcopy(loaded)(IMAGES) == expected).all()
    assert (Sequential(loaded, ReLU())(IMAGES) == np.maximum(expected, 0)).all()
    loaded.save(tmp_path / "again.safetensors")
    assert (load(tmp_path / "again.safetensors")(IMAGES) == expected).all()


def test_a_loaded_model_refuses_other_sizes_than_it_was_saved_for(saved):
    _, path = saved
    with pytest.raises(ValueError, match=r"expected \('N', 3, 6, 5\): what the model was saved for"):
        load(path)(np.zeros((1, 3, 16, 16)))


def test_saving_needs_the_input_shape(tmp_path):
    with pytest.raises(ValueError, match=r"save: set Sequential\.input_shape first"):
        Sequential(ReLU()).save(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="Sequential: input_shape is not set"):
        Sequential(ReLU()).graph()


def _edited_graph(change):
    def edit(metadata):
        graph = json.loads(metadata["graph"])
        change(graph)
        return {**metadata, "graph": json.dumps(graph)}

    return edit


FIELDS = ("op", "name", "inputs", "output", "attrs")


def _first_node(**entries):
    def change(graph):
        for place, value in entries.items():
            graph["nodes"][0][FIELDS.index(place)] = value

    return _edited_graph(change)


def _add_output(graph):
    graph["outputs"] = [node[FIELDS.index("output")] for node in graph["nodes"][-2:]]


def _without(key):
    return lambda metadata: {k: v for k, v in metadata.items() if k != key}


def _with(**entries):
    return lambda metadata: {**metadata, **entries}


HOSTILE = {
    "not ours": (_without("format"), "metadata 'format' is None, expected 'fastcnn'"),
    "newer": (_with(format_version="2"), "metadata 'format_version' is '2', expected '1'"),
    "no graph": (_without("graph"), "metadata 'graph' is missing"),
    "no shape": (_without("input_shape"), "metadata 'input_shape' is missing"),
    "graph no JSON": (_with(graph="{"), "metadata 'graph': "),
    "graph a number": (_with(graph="1"), "metadata 'graph': "),
    "graph nested deeply": (_with(graph="[" * 200_000), "metadata 'graph': "),
    "unknown operator": (_first_node(op="Shell"), "metadata 'graph': .*Shell"),
    "unknown input": (_first_node(inputs=["ghost"]), "metadata 'graph': .*ghost"),
    "no output": (_edited_graph(lambda g: g.update(outputs=[])), "metadata 'graph': .*output"),
    "two outputs": (_edited_graph(_add_output), "metadata 'graph': the graph has 2 outputs"),
    "shape a word": (_with(input_shape='"abc"'), "metadata 'input_shape': expected a list, got str"),
    "shape negative": (_with(input_shape="[3, -1, 4]"), "metadata 'input_shape': .*positive"),
    "shape huge": (_with(input_shape="[3, 1e9, 4]"), "metadata 'input_shape': "),
    "shape of other rank": (_with(input_shape="[3]"), "metadata 'graph': input 'x': shape"),
    "buffers unknown": (_with(buffers='["ghost"]'), "metadata 'buffers': no tensor is named 'ghost'"),
    "buffers a number": (_with(buffers="3"), "metadata 'buffers': expected a list of names"),
    "classes numbers": (_with(classes="[1, 2]"), "metadata 'classes': "),
    "classes an object": (_with(classes="{}"), "metadata 'classes': expected a list, got dict"),
    "preprocess a list": (_with(preprocess="[]"), "metadata 'preprocess': "),
    "preprocess unknown": (_with(preprocess='{"run": "rm"}'), "metadata 'preprocess': "),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_metadata_are_named(saved, case):
    _, path = saved
    edit, message = HOSTILE[case]
    tensors, metadata = read_safetensors(path)
    write_safetensors(path.with_name("edited.safetensors"), tensors, edit(metadata))
    with pytest.raises(ModelLoadError, match=message) as caught:
        load(path.with_name("edited.safetensors"))
    assert "edited.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    "change", [lambda t: t.pop("fc.bias"), lambda t: t.update({"fc.weight": np.zeros((4, 7), np.float32)})]
)
def test_tensors_that_do_not_fit_the_graph_are_named(saved, change):
    _, path = saved
    tensors, metadata = read_safetensors(path)
    tensors = dict(tensors)
    change(tensors)
    write_safetensors(path.with_name("edited.safetensors"), tensors, metadata)
    with pytest.raises(ModelLoadError, match="fc"):
        load(path.with_name("edited.safetensors"))


def test_names_in_a_file_are_only_names(tmp_path):
    linear = Sequential(Linear(2, 2))
    graph = linear.graph((2,))
    names = {"0.weight": "forward.__class__", "0.bias": "_children"}
    text = graph.to_json()
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    model = GraphModel(Graph.from_json(text, {new: graph.constants[old] for old, new in names.items()}))
    assert sorted(model.state_dict()) == sorted(names.values())
    assert (model([[1, 2]]) == linear([[1, 2]])).all()


def test_a_name_of_many_parts_is_an_error_not_a_crash(saved):
    _, path = saved
    tensors, metadata = read_safetensors(path)
    name = ".".join("a" * 5000)
    tensors[name] = tensors.pop("fc.bias")
    metadata["graph"] = metadata["graph"].replace("fc.bias", name)
    write_safetensors(path, tensors, metadata)
    with pytest.raises(ModelLoadError, match="metadata 'graph': constant 'a.a.a.*5000 parts"):
        load(path)
