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

class GlobalMean(Step):
    def __init__(self, y: View, x: View) -> None: ...
