import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

_Taps = tuple[np.ndarray, np.ndarray, np.ndarray]

class Resample(Step):
    def __init__(self, y: View, x: View, rows: _Taps, columns: _Taps) -> None: ...
