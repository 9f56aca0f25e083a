"""Every operation: its shape rule agrees with its definition, and its attributes are checked."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import ops
from fastcnn.ops.base import MAX_ELEMENTS, resolve_pads


def test_shape_rules_of_windows_agree_with_the_definitions(budget):
    rng = np.random.default_rng(0)
    for _ in range(budget(600, 20_000)):
        op = ops.get(str(rng.choice(["Conv", "MaxPool", "AveragePool"])))
        kernel = tuple(int(v) for v in rng.integers(1, 5, 2))
        attrs = {
            **op.defaults,
            "strides": tuple(int(v) for v in rng.integers(1, 4, 2)),
            "pads": tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel * 2),
            "auto_pad": str(rng.choice(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])),
        }
        if "dilations" in attrs:
            attrs["dilations"] = tuple(int(v) for v in rng.integers(1, 3, 2))
        inputs = [rng.standard_normal((2, 3, *rng.integers(1, 12, 2)))]
        if op.name == "Conv":
            inputs.append(rng.standard_normal((4, 3, *kernel)))
        else:
            attrs |= {"kernel_shape": kernel, "ceil_mode": int(rng.integers(2))}
        try:
            shape = op.infer(attrs, [array.shape for array in inputs])
        except ValueError as error:
            assert "expected" in str(error)
            continue
        assert op.reference(attrs, inputs).shape == shape, (op.name, attrs, inputs[0].shape)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(224, 3, 2), (7, 3, 2), (112, 5, 2), (5, 1, 3), (13, 7, 4)])
def test_same_padding_gives_ceil_of_size_over_stride(size, kernel, stride):
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        attrs = {**ops.get("Conv").defaults, "auto_pad": auto, "strides": (stride, stride)}
        top, left, bottom, right = resolve_pads(attrs, (size, size), (kernel, kernel))
        assert (top, bottom) == (left, right) and abs(top - bottom) <= 1
        assert bottom >= top if auto == "SAME_UPPER" else top >= bottom
        shape = ops.get("Conv").infer(attrs, [(1, 1, size, size), (1, 1, kernel, kernel)])
        assert shape[2:] == (-(-size // stride),) * 2


def test_outputs_beyond_any_memory_are_refused():
    with pytest.raises(ValueError, match=f"expected at most {MAX_ELEMENTS}"):
        ops.get("Gemm").infer({}, [(2**30, 1), (2**30, 1)])
    with pytest.raises(ValueError, match="expected at most"):
        ops.get("Concat").infer({"axis": 0}, [(2**47, 1), (2**47, 1), (1, 1)])


@pytest.mark.parametrize("name", ops.names())
def test_every_operation_tells_what_it_costs_and_checks_its_attributes(name):
    op = ops.get(name)
    assert op.name == name and type(op).__doc__
    op.check(op.defaults, ["x"] * max(op.required, 1))
    with pytest.raises(ValueError, match="unknown attribute 'flavour'"):
        op.check({**op.defaults, "flavour": 1}, ["x"] * op.required)
    with pytest.raises(ValueError, match="inputs, expected"):
        op.check(op.defaults, [])


def test_unknown_operations_are_named():
    with pytest.raises(ValueError, match="op='Fly', expected one of Abs, Add, "):
        ops.get("Fly")
