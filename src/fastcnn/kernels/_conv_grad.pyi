from collections.abc import Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class ConvGradWeight(Step):
    def __init__(
        self,
        y: View,
        x: View,
        g: View,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> None: ...

class LinearGradWeight(Step):
    def __init__(self, y: View, x: View, g: View) -> None: ...

class ChannelSum(Step):
    def __init__(self, y: View, g: View) -> None: ...
