"""The layers: each keeps its parameters and settings, and calls one function of functional.py.

Names, argument order, defaults and state-dict names are PyTorch's. A call of a layer computes inference. The functions
check inputs. A new layer is one class in the file of its family.
"""

from fastcnn.layers.activation import GELU, HardSigmoid, HardSwish, LeakyReLU, ReLU, ReLU6, Sigmoid, SiLU, Softmax, Tanh
from fastcnn.layers.attention import MultiheadAttention
from fastcnn.layers.base import Buffer, Layer, LoadResult, Parameter, generation
from fastcnn.layers.initial import manual_seed, seeded
from fastcnn.layers.normalize import GroupNorm, InstanceNorm2d, LayerNorm, RMSNorm
from fastcnn.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from fastcnn.layers.shape import Dropout, DropPath, Flatten
from fastcnn.layers.weighted import BatchNorm2d, Conv2d, Linear

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "DropPath",
    "Dropout",
    "Flatten",
    "GELU",
    "GlobalAvgPool2d",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LoadResult",
    "MaxPool2d",
    "MultiheadAttention",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "generation",
    "manual_seed",
    "seeded",
]
