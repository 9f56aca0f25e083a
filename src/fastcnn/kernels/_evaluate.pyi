from collections.abc import Callable, Sequence

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

MOST_INPUTS: int

class Evaluate(Step):
    def __init__(
        self, function: Callable[[list[np.ndarray]], np.ndarray], shapes: Sequence[tuple[int, ...]], *views: View
    ) -> None: ...
