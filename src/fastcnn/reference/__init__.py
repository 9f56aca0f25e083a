"""Every operation and every gradient in plain float64 NumPy: their definitions, the float64 path of the library, its
tests' oracle.

Written to be read next to the formula; it imports nothing else of fastcnn. Helpful messages are left to
`fastcnn.ops` (what does not fit raises NumPy's ValueError here), speed and float32 to `fastcnn.kernels`.

Common to all: real arrays of any type come in, a new float64 array goes out. Images are (N, C, H, W): image,
channel, row, column. `pads` are pixels at top, left, bottom, right. Arithmetic is IEEE 754's, without NumPy's
warnings: 1/0 is infinity, 0/0 and inf - inf are NaN. Semantics are those of PyTorch
(https://pytorch.org/docs/stable/nn.functional.html) and ONNX (https://onnx.ai/onnx/operators/).
"""

from fastcnn.reference.activation import (
    clip,
    clip_grad,
    hard_swish,
    hard_swish_grad,
    leaky_relu,
    leaky_relu_grad,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    silu,
    silu_grad,
    softmax,
    softmax_grad,
    tanh,
    tanh_grad,
)
from fastcnn.reference.forward import (
    add,
    avg_pool2d,
    batch_norm,
    concat,
    conv2d,
    flatten,
    global_avg_pool2d,
    linear,
    max_pool2d,
    multiply,
    pad,
)
from fastcnn.reference.gradient import (
    avg_pool2d_grad,
    batch_norm_grad,
    batch_stats,
    conv2d_grad_bias,
    conv2d_grad_input,
    conv2d_grad_weight,
    global_avg_pool2d_grad,
    linear_grad_bias,
    linear_grad_input,
    linear_grad_weight,
    max_pool2d_grad,
    sum_to,
)
from fastcnn.reference.local_response import local_response_norm, local_response_norm_grad
from fastcnn.reference.loss import (
    binary_cross_entropy,
    binary_cross_entropy_grad,
    cross_entropy,
    cross_entropy_grad,
    linear_loss,
    linear_loss_grad,
    mean_squared_error,
    mean_squared_error_grad,
)
from fastcnn.reference.matrix import attention, matmul
from fastcnn.reference.normal import erf, erf_grad, gelu, gelu_grad
from fastcnn.reference.row_norm import layer_norm, layer_norm_grad, layer_norm_parts

__all__ = [
    "add",
    "attention",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "batch_stats",
    "binary_cross_entropy",
    "binary_cross_entropy_grad",
    "clip",
    "clip_grad",
    "concat",
    "conv2d",
    "conv2d_grad_bias",
    "conv2d_grad_input",
    "conv2d_grad_weight",
    "cross_entropy",
    "cross_entropy_grad",
    "erf",
    "erf_grad",
    "flatten",
    "gelu",
    "gelu_grad",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "hard_swish",
    "hard_swish_grad",
    "layer_norm",
    "layer_norm_grad",
    "layer_norm_parts",
    "leaky_relu",
    "leaky_relu_grad",
    "linear",
    "linear_grad_bias",
    "linear_grad_input",
    "linear_grad_weight",
    "linear_loss",
    "linear_loss_grad",
    "local_response_norm",
    "local_response_norm_grad",
    "matmul",
    "max_pool2d",
    "max_pool2d_grad",
    "mean_squared_error",
    "mean_squared_error_grad",
    "multiply",
    "pad",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "silu",
    "silu_grad",
    "softmax",
    "softmax_grad",
    "sum_to",
    "tanh",
    "tanh_grad",
]
