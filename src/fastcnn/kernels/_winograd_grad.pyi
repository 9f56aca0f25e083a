from collections.abc import Sequence

from fastcnn.kernels._executor import Step
from fastcnn.kernels.view import View

class WinogradGradWeight(Step):
    def __init__(self, y: View, x: View, g: View, pads: Sequence[int]) -> None: ...
