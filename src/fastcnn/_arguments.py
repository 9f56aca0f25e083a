"""Arguments of the functional API, brought into one form: arrays, pairs, padding. Shapes are left to `fastcnn.ops`."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._names import one_of

if TYPE_CHECKING:
    from numpy.random import Generator

_LARGEST = 2**31 - 1


def as_real_array(value: Any, name: str) -> np.ndarray:
    """A native array of float32 or float64: what NumPy promotes the value and float32 to.

    Raises
    ------
    TypeError
        Where the value is no array of real numbers; names the argument.
    """
    array = as_array(value, name)
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return array
    raise TypeError(
        f"{name}.dtype={array.dtype}, expected a real number type (float32 or float64, or one that NumPy promotes to "
        "them)"
    )


def as_array(value: Any, name: str) -> np.ndarray:
    """An array of any type."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name}: expected an array: {error}") from None


def shape_of(value: Any, name: str) -> tuple[int, ...]:
    """The shape of an array, of what stands for one, or of a symbol."""
    return tuple(value.shape if hasattr(value, "shape") else as_array(value, name).shape)


def common_type(arrays: Sequence[np.ndarray]) -> np.dtype[Any]:
    """float32 or float64, by NumPy's promotion of the arrays' types and float32."""
    return np.result_type(np.float32, *[array.dtype.newbyteorder("=") for array in arrays])


def as_int(value: Any, name: str, least: int) -> int:
    """An integer from `least` to 2^31 - 1."""
    number = _as_index(value, name)
    if not least <= number <= _LARGEST:
        raise ValueError(f"{name}={number}, expected an integer >= {least}" + " and < 2**31" * (number > _LARGEST))
    return number


def as_seed(value: Any, name: str, expected: str = "an integer >= 0") -> int:
    """An integer from 0 to 2^128 - 1: as much as NumPy's generators make something of.

    Raises
    ------
    TypeError
        Where the value is no integer. NumPy takes more, and some that it tries to take end the process.
    """
    number = _index(value)
    if number is None:
        # Others may have endless representations.
        got = f"{name}={value!r}" if isinstance(value, (bool, float, str)) else f"{name}: got {type(value).__name__}"
        raise TypeError(f"{got}, expected {expected}")
    if not 0 <= number < 2**128:
        raise ValueError(f"{name}: got {'a negative integer' if number < 0 else '2**128 or more'}, expected {expected}")
    return number


def as_generator(value: Any, name: str, expected: str = "a numpy.random.Generator or an integer >= 0") -> Generator:
    """A generator, or a new one of a seed."""
    import numpy.random  # slow to import, and not needed before

    return (
        value if isinstance(value, numpy.random.Generator) else numpy.random.default_rng(as_seed(value, name, expected))
    )


def as_size(value: Any, name: str) -> int:
    """An integer from 0 on, such as a number of bytes."""
    number = _as_index(value, name)
    if number < 0:
        raise ValueError(f"{name}={number}, expected an integer >= 0")
    return number


def _as_index(value: Any, name: str) -> int:
    number = _index(value)
    if number is None:
        raise TypeError(f"{name}={value!r}, expected an integer")
    return number


def _index(value: Any) -> int | None:
    """The integer that a value stands for; None where it is none, or a bool."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def as_axis(value: Any, name: str) -> int:
    """An axis, which may be negative."""
    return as_int(value, name, -64)


def as_pair(value: Any, name: str, least: int = 1) -> tuple[int, int]:
    """(height, width) of an integer or a pair."""
    if isinstance(value, (tuple, list, np.ndarray)):
        if getattr(value, "ndim", 1) != 1 or len(value) != 2:
            raise ValueError(f"{name}={value!r}, expected an integer or a pair (height, width)")
        return as_int(value[0], f"{name}[0]", least), as_int(value[1], f"{name}[1]", least)
    number = as_int(value, name, least)
    return number, number


def as_sizes(value: Any, name: str) -> tuple[int, ...]:
    """The sizes of one axis or several, of an array that a machine can hold."""
    is_several = value.ndim > 0 if isinstance(value, np.ndarray) else isinstance(value, Sequence)
    items = list(value) if is_several and not isinstance(value, str) else [value]
    if not items:
        raise ValueError(f"{name}={value!r}, expected at least one size")
    try:
        sizes = tuple(as_int(item, name, 1) for item in items)
    except TypeError:
        raise TypeError(f"{name}={value!r}, expected an integer or a sequence of integers") from None
    if math.prod(sizes) > _LARGEST:
        raise ValueError(f"{name}={value!r}, expected less than 2**31 elements")
    return sizes


def as_float(value: Any, name: str) -> float:
    """A real number; NaN is none."""
    if isinstance(value, (bool, np.bool_, str)) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{name}={value!r}, expected a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name}={value!r}, expected a number") from None
    if number != number:
        raise ValueError(f"{name}=nan, expected a number")
    return number


def as_share(value: Any, name: str) -> float:
    """A number from 0 to 1."""
    number = as_float(value, name)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}={value!r}, expected a number from 0 to 1")
    return number


def as_choice(value: Any, name: str, choices: Iterable[str], others: str = "") -> str:
    """One of some strings; `others` tells what else the caller takes."""
    listed = list(choices)
    if not isinstance(value, str) or value not in listed:
        raise ValueError(f"{name}={value!r}, {one_of(value, listed)}{others}")
    return value


def as_mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A mapping whose keys are strings."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a mapping of names")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} has the name {key!r}, expected strings")
    return value


def as_flag(value: Any, name: str) -> int:
    """0 or 1 of a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}, expected True or False")
    return int(value)


def as_padding(value: Any) -> dict[str, Any]:
    """ONNX's attributes pads and auto_pad of an integer, a pair (height, width), four numbers (top, left, bottom,
    right), "same" or "valid"."""
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(f"padding={value!r}, expected 'same', 'valid', an integer, a pair or four numbers")
        return {"pads": (0, 0, 0, 0), "auto_pad": "SAME_UPPER" if value == "same" else "NOTSET"}
    if isinstance(value, (tuple, list, np.ndarray)) and getattr(value, "ndim", 1) == 1 and len(value) == 4:
        top, left, bottom, right = (as_int(value[i], f"padding[{i}]", 0) for i in range(4))
    else:
        if isinstance(value, (tuple, list, np.ndarray)) and (getattr(value, "ndim", 1) != 1 or len(value) != 2):
            raise ValueError(
                f"padding={value!r}, expected an integer, a pair (height, width) or four numbers "
                "(top, left, bottom, right)"
            )
        top, left = bottom, right = as_pair(value, "padding", 0)
    return {"pads": (top, left, bottom, right), "auto_pad": "NOTSET"}


def as_path(value: Any, name: str) -> str:
    """A path as a str."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a str or a path-like object")
    path = os.fsdecode(value)
    try:
        representable = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        representable = False
    if not representable:
        raise ValueError(f"{name}={path!r}, expected a path without null characters and lone surrogates")
    return path


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """The array to write to, of exactly this shape and type, C-contiguous, aligned and writeable."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: got {type(out).__name__}, expected an ndarray")
    if out.shape != shape:
        raise ValueError(f"out.shape={out.shape}, expected {shape}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise ValueError(f"out.dtype={out.dtype}, expected {dtype}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise ValueError(
            f"out: strides={out.strides}, writeable={out.flags.writeable}, expected a C-contiguous, "
            "aligned, writeable array"
        )
    return out


def check_overlap(out: np.ndarray, arrays: Sequence[np.ndarray | None], elementwise: bool) -> None:
    """Refuse an output that lies in an input, unless an elementwise operation replaces just that input."""
    for array in arrays:
        if array is None or not np.may_share_memory(out, array):
            continue
        same = (
            array.ctypes.data == out.ctypes.data
            and array.shape == out.shape
            and array.strides == out.strides
            and array.dtype == out.dtype
        )
        if not (elementwise and same) and np.shares_memory(out, array):
            raise ValueError("out: overlaps an input, expected memory of its own")
