"""The way of every functional call: bring the arguments into one form, then trace or compute. Errors begin with the
function's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn import ops
from fastcnn.compiler.eager import run_node
from fastcnn.graph.trace import Symbol, tracer_of

_WEAK = (bool, int, float)
Array = Any  # an ndarray or what np.asarray takes; or a Symbol


@contextmanager
def prefixed(function: str) -> Iterator[None]:
    """Errors inside begin with the function's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{function}: {error}") from None
    except TypeError as error:
        raise TypeError(f"{function}: {error}") from None


def apply(
    function: str, op: str, inputs: Mapping[str, Array], attrs: Callable[[], Mapping[str, Any]], out: Any = None
) -> Any:
    """Apply one operation to named inputs.

    `attrs` is called inside, so that what is wrong with an attribute is reported in the same way.
    """
    with prefixed(function):
        for name, value in list(inputs.items())[: None if ops.get(op).variadic else ops.get(op).required]:
            if value is None:
                raise TypeError(f"{name}: got None, expected an array")
        full = {**ops.get(op).defaults, **attrs()}
        tracer = tracer_of(inputs.values())
        if tracer is None:
            arrays = [None if value is None else arguments.as_real_array(value, name) for name, value in inputs.items()]
            # Python's numbers have no type of their own: x + 1.0 is of x's.
            typed = [a for a, v in zip(arrays, inputs.values(), strict=True) if a is not None and type(v) not in _WEAK]
            return _compute(op, full, arrays, arguments.common_type(typed), out)
        if out is not None:
            raise TypeError("out: cannot be given while a model is traced")
        values = [
            value if value is None or isinstance(value, Symbol) else arguments.as_real_array(value, name)
            for name, value in inputs.items()
        ]
        return tracer.apply(op, values, full)


def _compute(
    op: str, attrs: Mapping[str, Any], arrays: Sequence[np.ndarray | None], dtype: np.dtype[Any], out: Any
) -> np.ndarray:
    shape = ops.get(op).infer(attrs, [None if array is None else array.shape for array in arrays])
    if out is None:
        result = np.empty(shape, dtype)
    else:
        result = arguments.check_out(out, shape, dtype)
        arguments.check_overlap(result, arrays, ops.get(op).is_elementwise)
    if result.size == 0:
        return result
    # Contiguous for both: NumPy, too, adds in an order that depends on the strides.
    ready = [None if array is None else np.require(array, dtype, ["C", "A", "E"]) for array in arrays]
    if dtype == np.float64 or any(array is not None and array.size == 0 for array in arrays):
        # Sums over nothing are too rare to have kernels.
        with np.errstate(all="ignore"):
            result[...] = ops.get(op).reference(attrs, ready)
    else:
        run_node(op, dict(attrs), ready, result)
    return result
