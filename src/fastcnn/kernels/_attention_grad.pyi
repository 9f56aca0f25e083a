from collections.abc import Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class HeadAttentionGrad(Step):
    def __init__(
        self,
        y: View,
        grad: View,
        result: View,
        q: View,
        k: View,
        v: View,
        bias: View | None,
        heads: int,
        head_dim: int,
        value_dim: int,
        places: Sequence[int],
        scale: float,
        of: str,
    ) -> None: ...
