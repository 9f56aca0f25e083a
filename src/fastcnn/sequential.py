"""`Sequential`: a model that applies its layers in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

from fastcnn._arguments import as_mapping
from fastcnn.layers.base import Layer
from fastcnn.model import Model

__all__ = ["Sequential"]


class Sequential(Model):
    """A model that applies its layers in order.

    Parameters
    ----------
    *layers : Layer
        Layers, which are named "0", "1", …; or one mapping of names to layers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
    >>> model = Sequential(Conv2d(1, 4, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(4 * 13 * 13, 10))
    >>> model(np.zeros((2, 1, 28, 28))).shape
    (2, 10)
    >>> model[0], len(model), model[:3]
    (Conv2d(1, 4, kernel_size=(3, 3)), 5, Sequential(
      (0): Conv2d(1, 4, kernel_size=(3, 3))
      (1): ReLU()
      (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    ))
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named: Mapping[str, Any] = as_mapping(layers[0], "Sequential: layers")
        else:
            named = {str(i): layer for i, layer in enumerate(layers)}
        for name, layer in named.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: layer {name!r} is a {type(layer).__name__}, expected a Layer")
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        for layer in self._children.values():
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._children.values())

    @overload
    def __getitem__(self, index: int) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Layer:
        if isinstance(index, slice):
            return Sequential(dict(list(self._children.items())[index]))
        return list(self._children.values())[index]
