"""What general operations say that they take at most, against what Python's allocator has seen."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from general_cases import random_case

from fastcnn.ops.budget import Budget
from fastcnn.ops.general import TABLE


def names():
    return sorted(name.rpartition(":")[2] for name in TABLE)


@pytest.mark.parametrize("name", names())
def test_no_operation_takes_more_than_it_says(name, budget):
    rng = np.random.default_rng(sum(map(ord, name)))
    op = TABLE[f"ai.onnx::{name}"]
    for _ in range(budget(12, 400)):
        inputs, attrs = random_case(name, rng)
        asked = Budget(1 << 40)
        declared = op.cost(attrs, inputs).bytes
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        op.evaluate(attrs, inputs, asked)
        measured = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        shapes = [x if x is None else (x.shape, x.dtype.name) for x in inputs]
        assert measured <= declared, f"{name}: {measured} bytes, said {declared}: {shapes}, {attrs}"
        shape, dtype = op.result(attrs, inputs, asked)
        result = op.evaluate(attrs, inputs, asked)
        assert (shape, dtype) == (result.shape, result.dtype), f"{name}: {shapes}, {attrs}"
