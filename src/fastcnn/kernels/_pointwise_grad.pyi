from collections.abc import Mapping, Sequence
from typing import Any

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class ActivateGrad(Step):
    def __init__(self, y: View, g: View, v: View, activation: tuple[str, Mapping[str, Any]]) -> None: ...

class SoftmaxGrad(Step):
    def __init__(self, y: View, g: View, v: View) -> None: ...

class Dropout(Step):
    def __init__(self, y: View, x: View, clock: View, ratio: float, layer: int) -> None: ...

class Spread(Step):
    def __init__(self, y: View, x: View, strides: Sequence[int], begins: Sequence[int]) -> None: ...
