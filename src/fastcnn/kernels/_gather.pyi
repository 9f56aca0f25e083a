from collections.abc import Sequence

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

MOST: int

class MovePixels(Step):
    def __init__(
        self, y: View, x: View, images: Sequence[tuple[int, int]], pixels: Sequence[tuple[int, int]]
    ) -> None: ...

class MoveElements(Step):
    def __init__(self, y: View, x: View, places: np.ndarray, phases: int, step: int) -> None: ...

class Gather(Step):
    def __init__(self, y: View, x: View, loops: Sequence[tuple[int, int]]) -> None: ...
