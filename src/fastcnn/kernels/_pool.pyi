from collections.abc import Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Pool(Step):
    def __init__(
        self,
        y: View,
        x: View,
        average: bool,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        count_include_pad: bool,
    ) -> None: ...

class Int8Pool(Step):
    def __init__(
        self,
        y: View,
        x: View,
        average: bool,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        count_include_pad: bool,
        scale: float,
        x_zero: int,
        y_zero: int,
        low: int = 0,
        high: int = 255,
    ) -> None: ...

class GlobalMean(Step):
    def __init__(self, y: View, x: View) -> None: ...
