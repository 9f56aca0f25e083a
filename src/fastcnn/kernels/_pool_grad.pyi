from collections.abc import Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class PoolGrad(Step):
    def __init__(
        self,
        y: View,
        g: View,
        x: View | None,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        count_include_pad: bool,
    ) -> None: ...

class GlobalMeanGrad(Step):
    def __init__(self, y: View, g: View) -> None: ...
