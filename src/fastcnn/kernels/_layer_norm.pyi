import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class LayerNorm(Step):
    def __init__(
        self,
        y: View,
        x: View,
        weight: View | np.ndarray | None,
        bias: View | np.ndarray | None,
        epsilon: float,
        centred: bool,
    ) -> None: ...

class LayerNormStats(Step):
    def __init__(self, y: View, x: View, epsilon: float, centred: bool) -> None: ...

class LayerNormGrad(Step):
    def __init__(
        self, y: View, g: View, x: View, stats: View, weight: View | np.ndarray | None, centred: bool
    ) -> None: ...

class LayerNormSums(Step):
    def __init__(self, y: View, g: View, x: View, stats: View) -> None: ...
