from collections.abc import Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class HeadAttention(Step):
    def __init__(
        self,
        y: View,
        q: View,
        k: View,
        v: View,
        bias: View | None,
        heads: int,
        head_dim: int,
        value_dim: int,
        places: Sequence[int],
        scale: float,
    ) -> None: ...
