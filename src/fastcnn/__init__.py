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

from typing import TYPE_CHECKING, Any

from fastcnn import functional, layers, reference
from fastcnn._version import __version__
from fastcnn.config import get_include, show_config
from fastcnn.errors import FastcnnWarning, ImageError, ModelLoadError
from fastcnn.functional import concat
from fastcnn.kernels._cpu import get_num_threads, num_threads, set_num_threads
from fastcnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    DropPath,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    InstanceNorm2d,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    MultiheadAttention,
    ReLU,
    ReLU6,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from fastcnn.model import Model, Prediction
from fastcnn.sequential import Sequential

if TYPE_CHECKING:
    from fastcnn import distributed, explain, quantization, serving, training, zoo
    from fastcnn.estimator import ImageClassifier
    from fastcnn.loading import load
    from fastcnn.prepared import prepare
    from fastcnn.training import (
        LAMB,
        MSE,
        SGD,
        Adam,
        AdamW,
        Augment,
        BinaryCrossEntropy,
        Cosine,
        CrossEntropy,
        Lion,
        OneCycle,
        RMSprop,
        StepDecay,
        Trainer,
        Warmup,
    )
    from fastcnn.zoo import load_pretrained

__all__ = [
    "GELU",
    "LAMB",
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "AvgPool2d",
    "BatchNorm2d",
    "BinaryCrossEntropy",
    "Conv2d",
    "Cosine",
    "CrossEntropy",
    "DropPath",
    "Dropout",
    "FastcnnWarning",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "ImageClassifier",
    "ImageError",
    "InstanceNorm2d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Lion",
    "MaxPool2d",
    "Model",
    "ModelLoadError",
    "MultiheadAttention",
    "OneCycle",
    "Prediction",
    "RMSNorm",
    "RMSprop",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "StepDecay",
    "Tanh",
    "Trainer",
    "Warmup",
    "__version__",
    "concat",
    "explain",
    "distributed",
    "functional",
    "get_include",
    "get_num_threads",
    "layers",
    "load",
    "load_pretrained",
    "num_threads",
    "prepare",
    "quantization",
    "reference",
    "serving",
    "set_num_threads",
    "show_config",
    "training",
    "zoo",
]

_MODULES = ("distributed", "explain", "quantization", "serving", "training", "zoo")
_ON_FIRST_USE = {
    "ImageClassifier": "fastcnn.estimator",
    "load": "fastcnn.loading",
    "prepare": "fastcnn.prepared",
    "_capi": "fastcnn._c_table",
    "load_pretrained": "fastcnn.zoo",
    **{name: f"fastcnn.{name}" for name in _MODULES},
    **dict.fromkeys(
        (
            *("MSE", "SGD", "Adam", "AdamW", "Augment", "BinaryCrossEntropy", "Cosine", "CrossEntropy", "OneCycle"),
            *("LAMB", "Lion", "RMSprop", "StepDecay", "Trainer", "Warmup"),
        ),
        "fastcnn.training",
    ),
}


def __getattr__(name: str) -> Any:
    """Import what programs that bring their own network do not need: it would double the time of the import."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'fastcnn' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_ON_FIRST_USE[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
