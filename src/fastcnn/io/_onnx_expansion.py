"""Tools to replace a node of an ONNX file by several nodes that compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_dialect import RawNode

__all__ = ["OPSET", "Expansion"]

OPSET = 21


class Expansion:
    """The nodes that stand for one.

    Parameters
    ----------
    raw : RawNode
    fresh : callable
        Makes a new name of a value from a similar one.
    shape : callable
        The shape of a value, as far as it is known.
    """

    def __init__(
        self, raw: RawNode, fresh: Callable[[str], str], shape: Callable[[str], tuple[int | None, ...] | None]
    ) -> None:
        self.raw, self._fresh, self.shape = raw, fresh, shape
        self.parts: list[RawNode] = []
        self.attrs = dict(raw.attrs)

    def run(self, rule: Callable[[Expansion], None]) -> list[RawNode]:
        """Return the nodes. ModelLoadError for attributes and inputs that the rule does not take."""
        rule(self)
        if self.attrs:
            raise ModelLoadError(f"unknown attributes {', '.join(list(self.attrs)[:8])}")
        return self.parts

    def attr(self, key: str, default: Any) -> Any:
        """Take an attribute."""
        value = self.attrs.pop(key, default)
        if not isinstance(value, (int, float) if isinstance(default, float) else type(default)):
            raise ModelLoadError(f"attribute {key}={str(value)[:80]!r}, expected one like {default!r}")
        return value

    def inputs(self, least: int, most: int, absent: tuple[int, ...] = ()) -> list[str]:
        """All inputs, "" for those that are absent: those behind the first `least` may be, and those of `absent`."""
        found = self.raw.inputs
        needed = [name for i, name in enumerate(found[:least]) if i not in absent]
        if not least <= len(found) <= most or "" in needed:
            raise ModelLoadError(f"{sum(map(bool, found))} inputs, expected {least} to {most}")
        return [*found, *[""] * (most - len(found))]

    def refuse(self, **inputs: str) -> None:
        """Refuse inputs that are not supported."""
        for name, value in inputs.items():
            if value:
                raise ModelLoadError(f"its input {name} is not supported")

    def only(self, **values: Any) -> None:
        """Refuse attributes that have other values than these."""
        for key, value in values.items():
            found = self.attrs.pop(key, value)
            if found != value:
                raise ModelLoadError(f"{key}={str(found)[:80]}, expected {value}: others are not supported")

    def add(self, op: str, *inputs: str, output: int | None = None, **attrs: Any) -> str:
        """Add a node of one output: a new value, or that of the node that is replaced."""
        target = self.raw.outputs[output] if output is not None else ""
        target = target or self._fresh(f"{self.raw.name or self.raw.inputs[0]}/{op.lower()}")
        name = self.raw.name if output == 0 else ""
        self.parts.append(RawNode(op, name, list(inputs), [target], attrs, OPSET, self.raw.constant))
        return target

    def rank(self, value: str, least: int, most: int) -> int:
        """The number of dimensions of a value, which has to lie between two numbers."""
        shape = self.shape(value)
        if shape is None or not least <= len(shape) <= most:
            wanted = f"{least} to {most}" if least < most else str(least)
            raise ModelLoadError(f"an input of shape {shape}, expected {wanted} dimensions")
        return len(shape)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        return self.raw.constant(np.asarray(value, dtype))

    def added(self, x: str, *others: str) -> str:
        """The sum of x and those that are present."""
        for other in others:
            if other:
                x = self.add("Add", x, other)
        return x

    def activated(self, x: str) -> None:
        """The first output: the function of x that the attribute `activation` names."""
        name = self.attr("activation", "")
        numbers = self.attrs.pop("activation_params", None) or ()
        for key in ("activation_alpha", "activation_beta", "activation_gamma"):
            numbers += (self.attrs.pop(key),) if key in self.attrs else ()
        if name not in _ACTIVATIONS:
            raise ModelLoadError(f"activation={name[:40]!r}, expected one of {', '.join(filter(None, _ACTIVATIONS))}")
        keys = _ACTIVATIONS[name]
        if name == "Clip":
            self.add("Clip", x, *(self.constant(number) for number in numbers[:2]), output=0)
        else:
            self.add(name or "Identity", x, output=0, **dict(zip(keys, numbers, strict=False)))

    def real(self, x: str, scale: str, zero: str, axis: int = 1) -> str:
        """The numbers that quantised ones stand for."""
        return self.add("DequantizeLinear", x, scale, *([zero] if zero else []), axis=axis)

    def quantised(self, x: str, scale: str, zero: str, like: str) -> None:
        """The first output: x in the type of `zero`, or of `like` where there is none."""
        self.add("QuantizeLinear", x, scale, zero or self.add("CastLike", self.constant(0), like), output=0)


_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "": (),
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
