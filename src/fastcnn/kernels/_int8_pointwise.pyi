import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Int8Add(Step):
    def __init__(
        self,
        y: View,
        a: View,
        b: View,
        a_scale: float,
        a_zero: int,
        b_scale: float,
        b_zero: int,
        y_zero: int,
        low: int = 0,
        high: int = 255,
    ) -> None: ...

class Int8Multiply(Step):
    def __init__(
        self,
        y: View,
        a: View,
        b: View,
        scale: float,
        a_zero: int,
        b_zero: int,
        y_zero: int,
        low: int = 0,
        high: int = 255,
    ) -> None: ...

class Int8Table(Step):
    def __init__(self, y: View, x: View, table: np.ndarray) -> None: ...

class Quantize(Step):
    def __init__(self, y: View, x: View, scale: float, zero: int) -> None: ...

class Dequantize(Step):
    def __init__(self, y: View, x: View, scale: float, zero: int) -> None: ...
