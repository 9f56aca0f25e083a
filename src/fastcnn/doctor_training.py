"""What the self-examination checks of training: gradients, losses and the steps of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn import reference
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels._update import SETTINGS

ROUNDING = 2.0**-24  # relative error of one float32 operation
Bounded = tuple[np.ndarray, np.ndarray, np.ndarray]  # result, expectation, allowed error
Draw = Callable[..., np.ndarray]


def training_checks(draw: Draw) -> Iterator[tuple[str, Callable[[], Bounded]]]:
    """Yield the name of each check, and what makes it; `draw` gives normal numbers of a shape."""
    x, w = draw(2, 19, 13, 11), draw(21, 19, 3, 3)
    g, pads = draw(2, 21, 13, 11), (1, 1, 1, 1)
    yield "conv gradient by input", partial(_convolution_by_input, g, w, pads, (13, 11))
    yield "conv gradient by weight", partial(_convolution_by_weight, x, g, pads)
    yield "conv gradient by bias", partial(near, F.conv2d_grad_bias, reference.conv2d_grad_bias, (g,), 300)
    rows, weight, back = draw(7, 301), draw(45, 301), draw(7, 45)
    yield (
        "linear gradient by input",
        partial(near, F.linear_grad_input, reference.linear_grad_input, (back, weight), 47),
    )
    yield (
        "linear gradient by weight",
        partial(near, F.linear_grad_weight, reference.linear_grad_weight, (rows, back), 9),
    )
    for name, (function, define, roundings) in _ACTIVATIONS.items():
        yield (
            f"{name} gradient",
            partial(near, function, define, (draw(2, 21, 9, 8), np.tanh(draw(2, 21, 9, 8))), roundings),
        )
    image, pooled = draw(2, 21, 12, 10), draw(2, 21, 6, 5)
    for name, function, define in _pools():
        yield f"{name} gradient", partial(near, function, define, (pooled, image), 8)
    normal, channel = draw(2, 21, 9, 8), np.linspace(0.1, 2, 21, dtype=np.float32)
    yield (
        "batch_norm gradient",
        partial(near, F.batch_norm_grad, reference.batch_norm_grad, (draw(2, 21, 9, 8), normal, channel), 300),
    )
    yield (
        "local_response_norm",
        partial(
            near, partial(F.local_response_norm, size=5), partial(reference.local_response_norm, size=5), (normal,), 32
        ),
    )
    yield (
        "local_response_norm gradient",
        partial(
            near,
            partial(F.local_response_norm_grad, size=5),
            partial(reference.local_response_norm_grad, size=5),
            (draw(2, 21, 9, 8), normal),
            64,
        ),
    )
    for name, define, shape, *steps in _NORMS:
        arrays = {"grad": draw(*shape), "x": draw(*shape), "weight": draw(45 if len(shape) == 3 else shape[1])}
        yield f"{name} gradient", partial(_norm, define, arrays, steps)
    scores, target = draw(9, 21), np.abs(draw(9, 21))
    for op, define, define_grad in _LOSSES:
        yield f"{op} loss", partial(_loss, op, define, scores, target)
        yield f"{op} loss gradient", partial(_loss, f"{op}Grad", define_grad, scores, target)
    for kind in ("SGD", "Adam", "AdamW", "RMSprop"):
        yield f"{kind} update", partial(_update, kind, draw(21, 19, 3, 3), draw(21, 19, 3, 3))


_ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., np.ndarray], float]] = {
    "relu": (F.relu_grad, reference.relu_grad, 0),
    "clip": (partial(F.clip_grad, low=0.0, high=0.5), partial(reference.clip_grad, low=0.0, high=0.5), 0),
    "leaky_relu": (F.leaky_relu_grad, reference.leaky_relu_grad, 3),
    "tanh": (F.tanh_grad, reference.tanh_grad, 8),
    "sigmoid": (F.sigmoid_grad, reference.sigmoid_grad, 8),
    "hardswish": (F.hardswish_grad, reference.hard_swish_grad, 8),
    "silu": (F.silu_grad, reference.silu_grad, 16),
    "gelu": (F.gelu_grad, reference.gelu_grad, 16),
    "softmax": (partial(F.softmax_grad, dim=1), partial(reference.softmax_grad, axis=1), 60),
}
_LOSSES = (
    ("CrossEntropy", reference.cross_entropy, reference.cross_entropy_grad),
    ("MeanSquaredError", reference.mean_squared_error, reference.mean_squared_error_grad),
    ("BinaryCrossEntropy", reference.binary_cross_entropy, reference.binary_cross_entropy_grad),
    ("LinearLoss", reference.linear_loss, reference.linear_loss_grad),
)
_ROWS = {"axis": -1, "epsilon": 1e-5}
_TOKENS = ("grad", "x", "stats", "weight")
# Name, definition, shape of x, and what each step computes from what; the last one gives the gradient.
_NORMS: tuple[tuple[Any, ...], ...] = (
    ("layer_norm", reference.layer_norm_grad, (2, 7, 45), ("LayerNormStats", "stats", ("x",), _ROWS),
     ("LayerNormGrad", "y", _TOKENS, _ROWS)),
    ("rms_norm", partial(reference.layer_norm_grad, centred=False), (2, 7, 45),
     ("RMSNormStats", "stats", ("x",), _ROWS), ("RMSNormGrad", "y", _TOKENS, _ROWS)),
    ("group_norm", lambda grad, x, weight: reference.group_norm_grad(grad, x, 3, weight), (2, 21, 9, 8),
     ("GroupMoments", "moments", ("x",), {}), ("GroupSums", "sums", ("grad", "x", "moments"), {}),
     ("GroupNormGrad", "y", ("grad", "x", "moments", "sums", "weight"), {"groups": 3, "epsilon": 1e-5})),
)  # fmt: skip


def _pools() -> Iterator[tuple[str, Callable[..., Any], Callable[..., np.ndarray]]]:
    size, window, no_pads = (12, 10), (2, 2), (0, 0, 0, 0)
    yield (
        "max_pool2d",
        lambda grad, x: F.max_pool2d_grad(grad, x, 2),
        lambda grad, x: reference.max_pool2d_grad(grad, x, window, window, no_pads),
    )
    yield (
        "avg_pool2d",
        lambda grad, x: F.avg_pool2d_grad(grad, size, 2),
        lambda grad, x: reference.avg_pool2d_grad(grad, size, window, window, no_pads),
    )
    yield (
        "global_avg_pool2d",
        lambda grad, x: F.global_avg_pool2d_grad(grad[:, :, :1, :1], size),
        lambda grad, x: reference.global_avg_pool2d_grad(grad[:, :, :1, :1], size),
    )


def near(
    function: Callable[..., Any], define: Callable[..., np.ndarray], arrays: tuple[np.ndarray, ...], roundings: float
) -> Bounded:
    """A function of some arrays. The error may be `roundings` roundings of the largest number."""
    expected = define(*arrays)
    return function(*arrays), expected, np.full_like(expected, roundings * ROUNDING * np.abs(expected).max())


def _as_whole(result: np.ndarray, expected: np.ndarray, bound: float) -> Bounded:
    """A part of the Euclidean norm: Winograd's algorithm has no bound for single numbers."""
    error, norm = np.linalg.norm(result - expected), np.linalg.norm(expected)
    return np.array([error]), np.zeros(1), np.array([bound * norm])


def winograd(x: np.ndarray, w: np.ndarray, algorithm: str) -> Bounded:
    """A convolution of 3 x 3 by one of Winograd's algorithms."""
    result = F.conv2d(x, w, padding=1, algorithm=algorithm)
    return _as_whole(result, reference.conv2d(x, w, None, (1, 1), (1, 1, 1, 1)), 2e-5)


def _convolution_by_input(g: np.ndarray, w: np.ndarray, pads: tuple[int, ...], size: tuple[int, int]) -> Bounded:
    result = F.conv2d_grad_input(g, w, size, padding=1)
    return _as_whole(result, reference.conv2d_grad_input(g, w, size, (1, 1), pads), 2e-5)


def _convolution_by_weight(x: np.ndarray, g: np.ndarray, pads: tuple[int, ...]) -> Bounded:
    result = F.conv2d_grad_weight(x, g, 3, padding=1)
    return _as_whole(result, reference.conv2d_grad_weight(x, g, (3, 3), (1, 1), pads), 2e-5)


def _run(nodes: list[Node], arrays: dict[str, np.ndarray], output: str) -> np.ndarray:
    graph = Graph(nodes, {name: array.shape for name, array in arrays.items()}, [output], {})
    plan = compile_graph(graph, {name: array.shape for name, array in arrays.items()})
    result: np.ndarray = plan.run(list(arrays.values()))[0]
    return result


def _norm(
    define: Callable[..., np.ndarray],
    arrays: dict[str, np.ndarray],
    steps: list[tuple[str, str, tuple[str, ...], dict[str, Any]]],
) -> Bounded:
    nodes = [Node(op, output, inputs, output, attrs) for op, output, inputs, attrs in steps]
    return near(lambda: _run(nodes, arrays, "y"), lambda: define(*arrays.values()), (), 128)


def _loss(op: str, define: Callable[..., np.ndarray], scores: np.ndarray, target: np.ndarray) -> Bounded:
    result = _run([Node(op, "loss", ("scores", "target"), "y", {})], {"scores": scores, "target": target}, "y")
    expected = np.asarray(define(scores, target)).reshape(result.shape)
    return result, expected, np.full_like(expected, 400 * ROUNDING * np.abs(expected).max())


def _update(kind: str, param: np.ndarray, grad: np.ndarray) -> Bounded:
    """One step from running means that are zero; the formulas are told in training/optimizers.py."""
    rate, decay, momentum, epsilon, beta1, beta2 = 0.1, 0.01, 0.9, 1e-3, 0.9, 0.99
    numbers = {
        "rate": rate,
        "decay": decay,
        "momentum": momentum,
        "epsilon": epsilon,
        "beta2": beta2,
        "one_minus_beta1": 1 - beta1,
        "one_minus_beta2": 1 - beta2,
        "correction1": 1 - beta1,
        "correction2": (1 - beta2) ** 0.5,
    }
    settings = np.array([numbers[name] for name in SETTINGS], np.float32)
    p, g = param.astype(np.float64), grad.astype(np.float64)
    if kind == "AdamW":
        p = p - rate * decay * p
    else:
        g = g + decay * p
    steps = {
        "SGD": g,
        "Adam": g / (np.abs(g) + epsilon),
        "AdamW": g / (np.abs(g) + epsilon),
        "RMSprop": g / (np.sqrt((1 - beta2) * g * g) + epsilon),
    }
    expected = p - rate * steps[kind]
    zeros = np.zeros_like(param)
    arrays = {"param": param.copy(), "grad": grad, "settings": settings, "first": zeros, "second": zeros.copy()}
    update = Node("Update", "new", (*list(arrays)[:3], "", "first", "second", ""), "new", {"kind": kind, "nesterov": 0})
    norm = _run([Node("SquaredNorm", "norm", ("grad", ""), "norm", {}), update], arrays, "norm")
    allowed = np.full_like(expected, 64 * ROUNDING * np.abs(expected).max())
    squares = np.square(grad.astype(np.float64)).sum()
    return (
        np.append(arrays["param"], norm),  # which is updated in place
        np.append(expected, squares),
        np.append(allowed, 64 * ROUNDING * squares),
    )
