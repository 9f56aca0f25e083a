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
    erf,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from fastcnn.functional.activation_gradient import (
    clip_grad,
    erf_grad,
    gelu_grad,
    hardswish_grad,
    leaky_relu_grad,
    relu_grad,
    sigmoid_grad,
    silu_grad,
    softmax_grad,
    tanh_grad,
)
from fastcnn.functional.attention import multi_head_attention, scaled_dot_product_attention
from fastcnn.functional.axes import narrow, permute, reshape
from fastcnn.functional.combine import add, concat, drop_path, dropout, flatten, mul, pad
from fastcnn.functional.gradient import (
    avg_pool2d_grad,
    batch_norm_grad,
    conv2d_grad_bias,
    conv2d_grad_input,
    conv2d_grad_weight,
    global_avg_pool2d_grad,
    linear_grad_bias,
    linear_grad_input,
    linear_grad_weight,
    local_response_norm_grad,
    max_pool2d_grad,
)
from fastcnn.functional.matrix import matmul
from fastcnn.functional.normalize import group_norm, instance_norm, layer_norm, rms_norm
from fastcnn.functional.pool import avg_pool2d, global_avg_pool2d, max_pool2d
from fastcnn.functional.weighted import batch_norm, conv2d, linear, local_response_norm

__all__ = [
    "add",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "clip",
    "clip_grad",
    "concat",
    "conv2d",
    "conv2d_grad_bias",
    "conv2d_grad_input",
    "conv2d_grad_weight",
    "drop_path",
    "dropout",
    "erf",
    "erf_grad",
    "flatten",
    "gelu",
    "gelu_grad",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardswish_grad",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "leaky_relu_grad",
    "linear",
    "linear_grad_bias",
    "linear_grad_input",
    "linear_grad_weight",
    "local_response_norm",
    "local_response_norm_grad",
    "matmul",
    "max_pool2d",
    "max_pool2d_grad",
    "mul",
    "multi_head_attention",
    "narrow",
    "pad",
    "permute",
    "relu",
    "relu6",
    "relu_grad",
    "reshape",
    "scaled_dot_product_attention",
    "rms_norm",
    "sigmoid",
    "sigmoid_grad",
    "silu",
    "silu_grad",
    "softmax",
    "softmax_grad",
    "tanh",
    "tanh_grad",
]
