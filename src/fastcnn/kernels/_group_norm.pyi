import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class GroupMoments(Step):
    def __init__(self, y: View, x: View, g: View | None, moments: View | None) -> None: ...

class GroupNorm(Step):
    def __init__(
        self,
        y: View,
        x: View,
        moments: View,
        weight: View | np.ndarray | None,
        bias: View | np.ndarray | None,
        groups: int,
        epsilon: float,
    ) -> None: ...

class GroupNormGrad(Step):
    def __init__(
        self,
        y: View,
        g: View,
        x: View,
        moments: View,
        sums: View,
        weight: View | np.ndarray | None,
        groups: int,
        epsilon: float,
    ) -> None: ...

class GroupTotal(Step):
    def __init__(self, y: View, sums: View, moments: View, groups: int, epsilon: float) -> None: ...
