"""ONNX files that are refused, by name: several inputs, unsupported operators, more than the budget."""

from __future__ import annotations

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper

from fastcnn.errors import ModelLoadError
from fastcnn.io.onnx_import import read_onnx
from fastcnn.onnx_model import load_onnx

X = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)


def test_several_inputs_are_refused_by_name():
    """Whether a node reads them or not; weights listed as inputs, as IR versions before 4 do, are none."""
    nodes = [helper.make_node("Add", ["image", "mask"], ["y"], "add")]
    values = [build.value("image", ["N", 3]), build.value("mask", ["N", 3])]
    two = build.model(nodes, values, [build.value("y", ["N", 3])])
    unread = build.classifier()
    unread.graph.input.extend([build.value(f"extra{i}", [1]) for i in range(20)])
    many = r"21 inputs \('x', 'extra0', .*'extra8', …\)"
    for proto, names in ((two, r"2 inputs \('image', 'mask'\)"), (unread, many)):
        with pytest.raises(ModelLoadError, match=f"the graph has {names}, expected one, the batch"):
            load_onnx(proto.SerializeToString())
    listed = build.classifier()
    listed.graph.input.extend([build.value(tensor.name, tensor.dims) for tensor in listed.graph.initializer[:3]])
    np.testing.assert_array_equal(
        load_onnx(listed.SerializeToString())(X), load_onnx(build.classifier().SerializeToString())(X)
    )


def test_all_unsupported_operators_are_named_at_once():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "fine"),
        helper.make_node("Det", ["a"], ["b"], "first"),
        helper.make_node("Fancy", ["b"], ["c"], "second", domain="com.example"),
        helper.make_node("Det", ["c"], ["y"], "third"),
    ]
    proto = build.model(nodes, [build.value("x", [1, 2, 2])], [build.value("y", [1])])
    with pytest.raises(ModelLoadError) as caught:
        load_onnx(proto.SerializeToString())
    text = str(caught.value)
    assert "2 operators are not supported" in text and "Det (opset 17): nodes 'first', 'third'" in text
    assert "com.example::Fancy (opset 17): nodes 'second'" in text and "docs/onnx.md lists them" in text


def test_budget_bounds_weights_and_values():
    content = build.classifier().SerializeToString()
    read_onnx(content, max_bytes=1 << 20)
    with pytest.raises(ModelLoadError, match="the file: needs .* max_bytes leaves .3000"):
        load_onnx(content, max_bytes=3000)
    with pytest.raises(ModelLoadError, match="max_bytes"):
        load_onnx(content, max_bytes=20_000)


@pytest.mark.parametrize(
    ("key", "text"),
    [("fastcnn.classes", "[" + "[]," * 50_000 + "[]]"), ("names", "{" + "0:{}," * 5_000 + "2:{}}")],
)
def test_budget_bounds_what_metadata_become(key, text):
    model = build.classifier()
    helper.set_model_props(model, {key: text})
    content = model.SerializeToString()
    with pytest.raises(ModelLoadError, match=f"metadata '{key}': needs .* bytes, more than max_bytes leaves .2097152"):
        load_onnx(content, max_bytes=1 << 20)
    if key == "names":  # which are none
        assert load_onnx(content).classes is None
