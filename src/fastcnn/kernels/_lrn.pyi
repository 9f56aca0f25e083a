from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Lrn(Step):
    def __init__(self, y: View, x: View, size: int, alpha: float, beta: float, bias: float) -> None: ...

class LrnGrad(Step):
    def __init__(self, y: View, g: View, x: View, size: int, alpha: float, beta: float, bias: float) -> None: ...
