from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Quantize(Step):
    def __init__(self, y: View, x: View, scale: float, zero: int) -> None: ...

class Dequantize(Step):
    def __init__(self, y: View, x: View, scale: float, zero: int) -> None: ...
