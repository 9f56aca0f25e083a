"""fastcnn: train and run image classifiers on a CPU, from NumPy.

>>> import numpy as np
>>> import fastcnn as fc
>>> model = fc.Sequential(
...     fc.Conv2d(3, 8, 3), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(8 * 15 * 15, 2)
... )
>>> image = np.zeros((1, 3, 32, 32), np.float32)
>>> model.predict_proba(image).shape
(1, 2)
"""

import logging

from fastcnn import functional, layers, reference, zoo
from fastcnn._version import __version__
from fastcnn.config import show_config
from fastcnn.errors import FastcnnWarning, ImageError, ModelLoadError
from fastcnn.functional import concat
from fastcnn.kernels._cpu import get_num_threads, num_threads, set_num_threads
from fastcnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    HardSwish,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from fastcnn.model import Model, Prediction, Sequential
from fastcnn.model_file import load
from fastcnn.zoo import load_pretrained

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "FastcnnWarning",
    "Flatten",
    "GlobalAvgPool2d",
    "HardSwish",
    "ImageError",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Model",
    "ModelLoadError",
    "Prediction",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "__version__",
    "concat",
    "functional",
    "get_num_threads",
    "layers",
    "load",
    "load_pretrained",
    "num_threads",
    "reference",
    "set_num_threads",
    "show_config",
    "zoo",
]

logging.getLogger("fastcnn").addHandler(logging.NullHandler())
