"""ONNX Runtime's own operators, which its optimizer and its quantization write: against its stored values."""

from __future__ import annotations

import json

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from runtime_cases import CASES, MICROSOFT, STORED, Numbers, attention, case, f, fused_conv, heads, q_gemm, skip, u

import fastcnn as fc
from fastcnn.compiler.network import is_resolved
from fastcnn.errors import ModelLoadError
from fastcnn.onnx_model import load_onnx

VALUES = json.loads(STORED.read_text(encoding="utf-8"))


def close(got, wanted, name):
    """Equal numbers; of quantised ones a few are next to each other, where a rounded number lies in the middle."""
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5, err_msg=name)  # Winograd rounds
    else:
        difference = np.abs(got.astype(int) - wanted.astype(int))
        assert difference.max() <= 1 and np.count_nonzero(difference) <= 0.01 * wanted.size, name


@pytest.mark.parametrize("name", CASES)
def test_they_compute_what_onnx_runtime_computes(name, tmp_path):
    model, x = CASES[name]()
    stored = VALUES[name]
    expected = np.array(stored["values"], stored["type"]).reshape(stored["shape"])
    loaded = load_onnx(model.SerializeToString())
    close(loaded(x), expected, name)
    loaded.save(tmp_path / "net.safetensors")
    assert (fc.load(tmp_path / "net.safetensors")(x) == loaded(x)).all()
    loaded.export_onnx(tmp_path / "again.onnx")
    again = fc.load(tmp_path / "again.onnx")
    close(again(x), expected, name)


def test_every_case_is_stored():
    assert list(VALUES) == list(CASES)


@pytest.mark.parametrize(
    "name", ["FusedConv Relu", "FusedMatMul", "BiasGelu", "QuickGelu", "Attention", "MultiHeadAttention"]
)
def test_fused_operators_have_kernels(name):
    model, _ = CASES[name]()
    assert is_resolved(load_onnx(model.SerializeToString()).graph())


def test_a_quantised_network_is_computed_in_kernels_between_its_numbers():
    """QLinearConv, QLinearAdd and a pool, from and to float32."""
    n = Numbers("network")
    scale, zero = np.float32(0.03), np.uint8(128)
    names = {"s": scale, "z": zero, "ws": f(0.02), "wz": np.int8(0), "w": n.bytes(6, 3, 3, 3, kind="int8")}
    own = {"domain": MICROSOFT}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z"], ["c"], pads=[1] * 4),
        helper.make_node("QLinearAdd", ["c", "s", "z", "c", "s", "z", "s", "z"], ["a"], **own),
        helper.make_node("QLinearGlobalAveragePool", ["a", "s", "z", "s", "z"], ["p"], **own),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    proto = build.model(
        nodes,
        [build.value("x", ["N", 3, 8, 8])],
        [build.value("y", ["N", 6, 1, 1])],
        [build.tensor(name, array) for name, array in names.items()],
    )
    proto.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    x = n.floats(2, 3, 8, 8)
    got = load_onnx(proto.SerializeToString())(x)
    del proto.graph.node[2:]
    proto.graph.output[0].CopyFrom(build.value("c", ["N", 6, 8, 8], 2))
    (c,) = ReferenceEvaluator(proto).run(None, {"x": x})
    real = (c.astype(np.float32) - 128) * scale
    added = np.clip(np.rint(2 * real / scale), -128, 127) * scale
    expected = np.rint(added.mean((2, 3), keepdims=True) / scale) * scale
    assert np.abs(got - expected).max() <= 1.001 * scale


def test_zero_points_may_be_absent():
    """Then they are zeros, and the result has the type of the operands."""
    for kind in (np.uint8, np.int8):
        x, b = Numbers("z").bytes(2, 3, 4, kind=kind), Numbers("b").bytes(4, kind=kind)
        given, _ = case("QLinearMul", x, f(0.1), kind(0), b, f(0.03), kind(0), f(0.4), kind(0))
        absent, _ = case("QLinearMul", x, f(0.1), None, b, f(0.03), None, f(0.4))
        results = [load_onnx(model.SerializeToString())(x) for model in (given, absent)]
        assert results[1].dtype == kind and (results[0] == results[1]).all()


def keys_in_heads():
    model, x = heads(num_heads=4)
    model.graph.initializer[0].dims[:] = [1, 5, 12, 1]
    return model, x


REFUSED = {
    "a convolution of channels last": (
        lambda: case("NhwcConv", Numbers("n").floats(2, 8, 8, 3), Numbers("m").floats(4, 3, 3, 3)),
        r"com.microsoft::NhwcConv \(opset 17\): nodes 'y'",
    ),
    "a pool of channels last": (
        lambda: case(
            "QLinearGlobalAveragePool", Numbers("n").bytes(2, 8, 8, 3), f(1), u(0), f(1), u(0), channels_last=1
        ),
        "channels_last=1, expected 0: others are not supported",
    ),
    "an unknown activation": (lambda: fused_conv("Gelu"), "activation='Gelu', expected one of Relu, Tanh"),
    "a mask": (
        lambda: case(
            "Attention", Numbers("n").floats(2, 6, 10), *Numbers("m").floats(2, 10, 12), np.ones((2, 6), "i4")
        ),
        "its input mask_index is not supported|2 dimensions",
    ),
    "a causal mask": (lambda: attention(12, num_heads=3, unidirectional=1), "unidirectional=1, expected 0"),
    "heads that do not divide": (lambda: attention(12, num_heads=5), "num_heads=5, expected a divisor of the width 12"),
    "no number of heads": (lambda: attention(12), "num_heads=0, expected a divisor"),
    "values of another width": (
        lambda: attention(12, (12, 12, 8), num_heads=2, do_rotary=1),
        "do_rotary=1, expected 0",
    ),
    "keys in heads": (keys_in_heads, r"shape \(1, 5, 12, 1\), expected 3 dim"),
    "an unknown attribute": (lambda: skip("BiasGelu", (8,)), "unknown attributes epsilon"),
    "inputs too few": (lambda: case("QGemm", Numbers("n").bytes(2, 6), f(1)), "2 inputs, expected 6 to 9"),
    "parts of two": (
        lambda: case("QLinearConcat", Numbers("n").bytes(2, 6), u(1), f(1), u(0), axis=1),
        "4 inputs, expected a scale and zero point, and three for each part",
    ),
    "sizes that are none": (
        lambda: attention(12, num_heads=2, qkv_hidden_sizes=[24, 24, -12]),
        r"qkv_hidden_sizes=\(24, 24, -12\), expected three with the sum 36",
    ),
    "a scale that is absent": (
        lambda: case("QLinearAdd", Numbers("n").bytes(2, 6), None, u(0), u([1]), f(1), u(0), f(1), u(0)),
        "7 inputs, expected 7 to 8",
    ),
    "a number as text": (lambda: q_gemm("uint8", True, alpha="much"), "attribute alpha='much', expected one like 1.0"),
    "a network that is unknown": (
        lambda: case("Gelu", Numbers("n").floats(2, 6), domain="com.example"),
        "com.example::Gelu",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_forms_are_refused(what):
    make, message = REFUSED[what]
    with pytest.raises(ModelLoadError, match=message):
        load_onnx(make()[0].SerializeToString())
