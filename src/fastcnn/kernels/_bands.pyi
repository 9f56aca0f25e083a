from collections.abc import Callable, Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

WINDOW_VECTORS: int

def band_rows(height: int, most: int, kept: int, stride: int) -> int: ...

class InBands(Step):
    def __init__(
        self,
        y: View,
        x: View,
        conv: Callable[[View, View], Step],
        reader: Callable[[View, View], Step],
        between: Sequence[int],
        step: int,
        reach: int,
        stride: int,
        top: int,
        left: int,
        right: int,
    ) -> None: ...
