from collections.abc import Sequence

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Int8Conv(Step):
    def __init__(
        self,
        y: View,
        x: View,
        residual: View | None,
        weights: np.ndarray,
        bias: np.ndarray,
        scale: np.ndarray,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        y_zero: int,
        residual_scale: float,
        residual_zero: int,
        low: int,
        high: int,
        table: np.ndarray | None = None,
        rounded: tuple[int, float] | None = None,
    ) -> None: ...

class Int8Depthwise(Step):
    def __init__(
        self,
        y: View,
        x: View,
        residual: View | None,
        weights: np.ndarray,
        bias: np.ndarray,
        scale: np.ndarray,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        y_zero: int,
        residual_scale: float,
        residual_zero: int,
        low: int,
        high: int,
        table: np.ndarray | None = None,
    ) -> None: ...
