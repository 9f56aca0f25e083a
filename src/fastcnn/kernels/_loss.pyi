from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Loss(Step):
    def __init__(self, y: View, scores: View, target: View, kind: str) -> None: ...

class LossGrad(Step):
    def __init__(self, y: View, scores: View, target: View, kind: str) -> None: ...
