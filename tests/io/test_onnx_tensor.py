"""Tensors whose numbers are in fields of their own, not in raw data."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_tensor import TensorReader
from fastcnn.ops.budget import Budget
from fastcnn.ops.general.elementwise import DTYPES


@pytest.mark.parametrize("number", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_numbers_of_every_type_are_as_the_package_reads_them(number, count):
    """More of them, too, than are converted at a time."""
    dtype = np.dtype(DTYPES[number])
    rng = np.random.default_rng(number)
    if dtype.kind == "f":
        values = (rng.standard_normal(count) * 100).astype(dtype)
    else:
        low, high = (0, 2) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        values = rng.integers(low, high, count, np.uint64 if dtype.name == "uint64" else np.int64).astype(dtype)
    tensor = helper.make_tensor("t", number, [count], values)
    assert not tensor.HasField("raw_data")
    found = TensorReader(None, Budget()).read(tensor, "initializer")
    np.testing.assert_array_equal(found, numpy_helper.to_array(tensor), strict=True)


@pytest.mark.parametrize("place", [0, 69_999])
def test_numbers_beyond_their_type_are_refused(place):
    tensor = TensorProto(name="t", data_type=TensorProto.UINT8, dims=[70_000], int32_data=[1] * 70_000)
    tensor.int32_data[place] = -2
    with pytest.raises(ModelLoadError, match=r"initializer 't': values from -2 to 1, expected those of uint8"):
        TensorReader(None, Budget()).read(tensor, "initializer")


def test_arrays_are_kept_in_the_budget():
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [100], [0.0] * 100)
    reader = TensorReader(None, Budget(1000))
    for _ in range(2):
        reader.read(tensor, "initializer")
    with pytest.raises(ValueError, match=r"initializer 't': needs 400 bytes, more than max_bytes leaves \(200\)"):
        reader.read(tensor, "initializer")
