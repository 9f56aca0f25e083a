"""Recurrent networks, scattering and columns: against their definitions, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from general_cases import random_case
from onnx import helper
from onnx.reference import ReferenceEvaluator
from recurrent_cases import definition

from fastcnn import ops
from fastcnn.ops.budget import Budget

ALL = Budget(1 << 40)


def evaluate(name, inputs, **attrs):
    return ops.get(f"ai.onnx::{name}").evaluate(attrs, inputs, ALL)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_recurrent_networks_agree_with_their_definition(name, budget):
    rng = np.random.default_rng(5)
    for _ in range(budget(60, 2_000)):
        inputs, attrs = random_case(name, rng)
        got, expected = evaluate(name, inputs, **attrs), definition(name, inputs, attrs)
        exact = inputs[0].dtype == np.float32
        np.testing.assert_allclose(got, expected, *((1e-4, 1e-5) if exact else (2e-2, 2e-3)), err_msg=str(attrs))
        assert got.dtype == inputs[0].dtype


def test_activations_take_their_numbers_from_the_lists():
    """Only functions that have a parameter take one, in the order of the functions."""
    x, w, r = np.float32([[[-2.0]], [[3.0]]]), np.ones((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32)
    attrs = {"direction": "bidirectional", "activation_alpha": (0.5, 0.25), "activation_beta": (1.0,)}
    got = evaluate("RNN", [x, w, r], activations=("LeakyRelu", "Affine"), **attrs)
    np.testing.assert_allclose(got.reshape(2, 2), [[-1.0, 0.5], [3.0, 1.75]])
    got = evaluate("RNN", [x, w, r], activations=("relu", "Elu"), direction="bidirectional")
    np.testing.assert_allclose(got.reshape(2, 2), [[0, np.expm1(-2)], [3, 3]], rtol=1e-6)


@pytest.mark.parametrize("name", ["ScatterND", "ScatterElements", "Col2Im"])
def test_scattering_and_columns_agree_with_the_onnx_package(name, budget):
    rng = np.random.default_rng(6)
    for _ in range(budget(40, 1_000)):
        inputs, attrs = random_case(name, rng)
        inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs]
        if attrs.get("reduction") == "none":  # which of several updates of one place is last, nobody says
            inputs[2] = np.full_like(inputs[2], 7)
        node = helper.make_node(name, ["a", "b", "c"], ["y"], **attrs)
        (expected,) = ReferenceEvaluator(node).run(None, dict(zip("abc", inputs, strict=True)))
        got = evaluate(name, inputs, **attrs)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5, err_msg=str(attrs))


def zeros(*shape):
    return np.zeros(shape, np.float32)


def ints(*values):
    return np.array(values)


LSTM = [zeros(4, 2, 3), zeros(1, 20, 3), zeros(1, 20, 5)]
WRONG = {
    "weights of another size": ("LSTM", [LSTM[0], zeros(1, 20, 4), LSTM[2]], {}, r"w.shape=\(1, 20, 4\), .*20, 3"),
    "one direction too few": ("LSTM", LSTM, {"direction": "bidirectional"}, r"w.shape=.*expected \(2, 20, 3\)"),
    "an unknown direction": ("GRU", LSTM, {"direction": "up"}, "direction='up', layout=0, expected forward, reverse"),
    "an unknown activation": ("LSTM", LSTM, {"activations": ("Sin",) * 3}, "activation 'Sin', expected one of relu"),
    "activations too few": ("LSTM", LSTM, {"activations": ("Relu",)}, "expected 3 for each of 1 directions"),
    "a hidden size of its own": ("LSTM", LSTM, {"hidden_size": 7}, "hidden_size=7, expected 5, as the weights have"),
    "a sequence that is longer": ("LSTM", [*LSTM, None, ints(4, 5)], {}, "sequence_lens from 4 to 5, expected 0 to 4"),
    "a state of another batch": ("LSTM", [*LSTM, None, None, zeros(1, 3, 5)], {}, r"initial_h.*expected \(1, 2, 5\)"),
    "peepholes of one gate": ("LSTM", [*LSTM, *[None] * 4, zeros(1, 5)], {}, r"p.shape=.*expected \(1, 15\)"),
    "updates of another shape": ("ScatterND", [zeros(4, 3), ints([0]), zeros(2)], {}, r"updates of shape \(2,\)"),
    "an index outside": (
        "ScatterND",
        [zeros(4, 3), ints([4]), zeros(1, 3)],
        {},
        "indices from 4 to 4, expected -4 to 3",
    ),
    "an unknown reduction": (
        "ScatterElements",
        [zeros(4), ints(0), zeros(1)],
        {"reduction": "mean"},
        "reduction='mean', expected none, add",
    ),
    "columns too few": ("Col2Im", [zeros(1, 4, 8), ints(4, 4), ints(2, 2)], {}, r"expected \(N, C \* 4, 9\)"),
    "a window beyond the image": ("Col2Im", [zeros(1, 4, 9), ints(1, 4), ints(2, 2)], {}, "does not fit into"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_operands_are_told(what):
    name, inputs, attrs, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        evaluate(name, inputs, **attrs)


def test_names_of_activations_are_a_list():
    with pytest.raises(ValueError, match="activations='Relu', expected a list of texts"):
        ops.get("ai.onnx::LSTM").check({"activations": "Relu"}, ["x", "w", "r"])


def test_dynamic_quantisation_divides_float32():
    """The scale in float64, rounded once, is another number: these are ONNX Runtime's bits."""
    for ends, bits in {(2.47, -4.14): 1020549495, (6.43, -8.4): 1030632932, (1.7, -2.92): 1016359797}.items():
        scale = evaluate("DynamicQuantizeLinear", [np.float32(ends)], output=1)
        assert scale.dtype == np.float32 and scale.view(np.uint32) == bits, ends


@pytest.mark.parametrize("shape", [(512, 256, 1, 1), (3, 70000), (5,)])
def test_quantisation_by_channel_needs_memory_for_its_elements_alone(shape):
    x, scale = np.ones(shape, np.int8), np.linspace(1, 2, shape[0], dtype=np.float32)
    for zero in (None, np.zeros(shape[0], np.int8)):
        op, inputs = ops.get("ai.onnx::DequantizeLinear"), [x, scale, zero]
        assert op.cost({"axis": 0}, inputs).bytes < 100 * x.size + (1 << 20)
        y = op.evaluate({"axis": 0}, inputs, ALL)
        assert (y == scale.reshape(-1, *[1] * (len(shape) - 1))).all()
        back = evaluate("QuantizeLinear", [y, scale, np.zeros(shape[0], np.int8)], axis=0)
        assert (back == x).all()
