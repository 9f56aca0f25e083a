"""ONNX's Attention becomes one step with a kernel where it can; all of its forms, and operators that ONNX defines by
others, are inlined."""

from __future__ import annotations

import numpy as np
import onnx_builders as build
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from fastcnn.compiler.network import is_resolved
from fastcnn.errors import ModelLoadError
from fastcnn.onnx_model import load_onnx

OPSET = 23


def network(split=False, mask=None, heads=3, opset=OPSET, **attrs):
    """Tokens (N, 5, 12) through one layer of attention; `split` says that heads are axes of their own."""
    rng = np.random.default_rng(1)
    constants = {"w": rng.standard_normal((12, 36)).astype(np.float32) * 0.4, "apart": np.array([0, 0, 3, 4])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["qkv"]),
        helper.make_node("Split", ["qkv"], ["q", "k", "v"], axis=2, num_outputs=3),
    ]
    names, numbers = ["q", "k", "v"], {"q_num_heads": heads, "kv_num_heads": heads}
    if split:
        for name in "qkv":
            nodes.append(helper.make_node("Reshape", [name, "apart"], [f"{name}4"]))
            nodes.append(helper.make_node("Transpose", [f"{name}4"], [f"{name}h"], perm=[0, 2, 1, 3]))
        names, numbers = ["qh", "kh", "vh"], {}
    if mask is not None:
        constants["mask"] = mask
        names.append("mask")
    nodes.append(helper.make_node("Attention", names, ["y"], "attention", **numbers, **attrs))
    tensors = [build.tensor(name, array) for name, array in constants.items()]
    return build.model(nodes, [build.value("x", ["N", 5, 12])], [build.value("y", None)], tensors, opset, 11)


MASK = np.random.default_rng(2).standard_normal((5, 5)).astype(np.float32)
FORMS = {
    "plain": ({}, True),
    "heads apart": ({"split": True}, True),
    "a mask that is added": ({"mask": MASK, "scale": 0.3}, True),
    "heads apart, with a mask of each": ({"split": True, "mask": np.stack([MASK, 2 * MASK, -MASK])[None]}, True),
    "a mask of bits": ({"mask": MASK > -0.5}, False),
    "causal": ({"is_causal": 1}, False),
    "scores that are bounded": ({"softcap": 2.0}, False),
}


@pytest.mark.parametrize("what", FORMS)
def test_attention_is_computed_in_kernels(what):
    given, one_step = FORMS[what]
    proto, x = network(**given), np.random.default_rng(3).standard_normal((3, 5, 12)).astype(np.float32)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    model = load_onnx(proto.SerializeToString())
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)
    assert is_resolved(model.graph())
    kernels = [step.kernel for step in model.profile(x, 1).steps]
    assert "numpy" not in kernels and kernels.count("attention") == one_step


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": 0}, "attention"),
        ({"heads": -3}, "attention"),
        ({"heads": 5}, "q_num_heads=5, expected a divisor of the width 12"),
        ({"opset": 22}, r"node 'attention' \(Attention, opset 22\): a later opset has it first"),
        ({"softcap": 1.0, "softmax_precision": 77}, "its attributes and inputs do not fit to each other"),
        ({"fancy": 1}, "fancy"),
    ],
)
def test_other_forms_are_refused(given, message):
    with pytest.raises(ModelLoadError, match=message):
        load_onnx(network(**given).SerializeToString())
