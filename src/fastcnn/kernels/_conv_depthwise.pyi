from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

def pack_depthwise(weight: np.ndarray, vl: int) -> np.ndarray: ...
def phases(taps: int, stride: int, before: int, dilation: int) -> tuple[list[tuple[int, int, int, int]], int]: ...

class DepthwiseConv(Step):
    def __init__(
        self,
        y: View,
        x: View,
        residual: View | None,
        weights: np.ndarray | View,
        bias: np.ndarray | View,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class StridedDepthwiseGrad(Step):
    def __init__(
        self,
        y: View,
        g: View,
        weights: np.ndarray | View,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
    ) -> None: ...
