from collections.abc import Sequence

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class WinogradGradWeight(Step):
    def __init__(self, y: View, x: View, g: View, pads: Sequence[int]) -> None: ...
