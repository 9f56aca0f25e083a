"""The functional API: operations on NumPy arrays, or on symbols while a model is traced. PyTorch's names and meaning.

Arguments are brought into ONNX's form here; shapes are validated by each operation's shape rule (`fastcnn.ops`).
float32 runs on the kernels; float64 on the definitions in `fastcnn.reference`, for checking. Other real types are
taken as NumPy promotes them with float32 (uint8 images become float32, int64 arrays float64). Arrays may have any
strides, byte order and alignment.

Every function gives a new C-contiguous array, or writes to `out` (C-contiguous, of the result's shape and type; it
must not overlap an input, except that elementwise functions may replace theirs) and returns it. Every function
raises TypeError or ValueError that names the argument, what came and what was expected.
"""

from fastcnn.functional.activation import (
    clip,
    hardswish,
    leaky_relu,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from fastcnn.functional.combine import add, concat, dropout, flatten, mul, pad
from fastcnn.functional.pool import avg_pool2d, global_avg_pool2d, max_pool2d
from fastcnn.functional.weighted import batch_norm, conv2d, linear

__all__ = [
    "add",
    "avg_pool2d",
    "batch_norm",
    "clip",
    "concat",
    "conv2d",
    "dropout",
    "flatten",
    "global_avg_pool2d",
    "hardswish",
    "leaky_relu",
    "linear",
    "max_pool2d",
    "mul",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]
