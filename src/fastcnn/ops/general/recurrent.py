"""Recurrent networks over a sequence: RNN, GRU and LSTM, in one or both directions.

The products of all inputs with the weights are one matrix product. The states follow one step after the other. float16
is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Floats, Ints, Texts, cost_of, general
from fastcnn.ops.general.elementwise import sigmoid, softplus
from fastcnn.ops.general.matrix import product_work
from fastcnn.ops.node import Attrs

Function = Callable[[Array], Array]
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
# Functions with the defaults of alpha and beta, None where a function does not take the number.
_ACTIVATIONS: dict[str, tuple[Callable[..., Any], float | None, float | None]] = {
    "relu": (lambda x: np.maximum(x, 0), None, None),
    "tanh": (np.tanh, None, None),
    "sigmoid": (sigmoid, None, None),
    "softsign": (lambda x: x / (1 + np.abs(x)), None, None),
    "softplus": (softplus, None, None),
    "affine": (lambda x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "leakyrelu": (lambda x, alpha: np.where(x >= 0, x, alpha * x), 0.01, None),
    "thresholdedrelu": (lambda x, alpha: np.where(x > alpha, x, 0), 1.0, None),
    "scaledtanh": (lambda x, alpha, beta: alpha * np.tanh(beta * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), 0.2, 0.5),
    "elu": (lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))), 1.0, None),
}
# The functions of a direction, by the number of gates.
_DEFAULTS: dict[int, Texts] = {1: ("tanh",), 3: ("sigmoid", "tanh"), 4: ("sigmoid", "tanh", "tanh")}
# Arrays of the size of all gates that a step holds, and its calls of NumPy.
_STEP_ARRAYS, _STEP_CALLS = 8, 64


class _Weights(NamedTuple):
    """Weights of one direction. `recurrence` is transposed; `rest` are biases of the recurrence that are not added to
    the inputs, or peepholes."""

    recurrence: Array
    rest: Array | None
    functions: tuple[Function, ...]


class _Sequence(NamedTuple):
    """A sequence with its steps first, and what both directions share."""

    x: Array  # (steps, batch, inputs)
    lengths: Array | None  # (batch,)
    states: tuple[Array | None, ...]  # each (directions, batch, hidden)
    directions: int
    hidden: int


def _functions(
    names: Texts | None, alphas: Floats | None, betas: Floats | None, defaults: Texts, directions: int
) -> list[tuple[Function, ...]]:
    """The activations of each direction. A function that takes alpha or beta takes the next number of its list."""
    chosen = names or defaults * directions
    if len(chosen) != len(defaults) * directions:
        raise ValueError(f"activations={chosen[:8]}, expected {len(defaults)} for each of {directions} directions")
    found = []
    rests = (iter(alphas or ()), iter(betas or ()))
    for name in chosen:
        entry = _ACTIVATIONS.get(name.lower())
        if entry is None:
            raise ValueError(f"activation {name[:40]!r}, expected one of {', '.join(_ACTIVATIONS)}")
        numbers = [next(rest, default) for rest, default in zip(rests, entry[1:], strict=True) if default is not None]
        found.append(_with(entry[0], numbers))
    return [tuple(found[i : i + len(defaults)]) for i in range(0, len(found), len(defaults))]


def _with(function: Callable[..., Any], numbers: Sequence[float]) -> Function:
    return lambda x: np.asarray(function(x, *numbers)).astype(x.dtype, copy=False)


def _clipped(function: Function, clip: float | None) -> Function:
    """The function of a gate, whose argument is clipped."""
    return function if not clip else lambda x: function(np.clip(x, -clip, clip))


def _check(name: str, array: Any, expected: Ints) -> None:
    if array is not None and array.shape != expected:
        raise ValueError(f"{name}.shape={array.shape}, expected {expected}")


def _plan(attrs: Attrs, inputs: Sequence[Any], gates: int, states: int) -> tuple[int, int, int, int, int]:
    """Steps, batch, inputs, directions and the hidden size, after all shapes are checked."""
    x, w, r, b, lengths, *more = (*inputs, *[None] * 8)[:8]
    direction, layout = attrs.get("direction", "forward"), attrs.get("layout", 0)
    if direction not in _DIRECTIONS or layout not in (0, 1):
        raise ValueError(f"direction={direction!r}, layout={layout}, expected {', '.join(_DIRECTIONS)}, and 0 or 1")
    if x.ndim != 3 or r.ndim != 3:
        raise ValueError(f"x.shape={x.shape}, r.shape={r.shape}, expected 3 dimensions each")
    steps, batch, size = x.shape if layout == 0 else (x.shape[1], x.shape[0], x.shape[2])
    count, hidden = _DIRECTIONS[direction], r.shape[2]
    _functions(attrs.get("activations"), None, None, _DEFAULTS[gates], count)
    if attrs.get("hidden_size") not in (None, hidden):
        raise ValueError(f"hidden_size={attrs['hidden_size']}, expected {hidden}, as the weights have")
    _check("w", w, (count, gates * hidden, size))
    _check("r", r, (count, gates * hidden, hidden))
    _check("b", b, (count, 2 * gates * hidden))
    _check("sequence_lens", lengths, (batch,))
    for name, state in zip(("initial_h", "initial_c")[:states], more, strict=False):
        _check(name, state, (count, batch, hidden) if layout == 0 else (batch, count, hidden))
    _check("p", more[2] if states == 2 else None, (count, 3 * hidden))
    return steps, batch, size, count, hidden


def _cost(gates: int, states: int) -> Callable[[Attrs, Sequence[Any]], Cost]:
    def cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        steps, batch, size, count, hidden = _plan(attrs, inputs, gates, states)
        dtype = np.dtype(np.float64 if inputs[0].dtype == np.float64 else np.float32)
        wide = gates * hidden
        copies = sum(y.size for y in inputs if y is not None) + count * wide
        held = 2 * copies + 3 * steps * batch * wide + 3 * steps * count * batch * hidden
        held += (_STEP_ARRAYS + 8) * batch * (wide + count * hidden)
        adds = steps * count * batch * wide * (size + hidden)
        work = product_work(adds, dtype) + steps * count * (_STEP_ARRAYS * 2 * batch * wide + _STEP_CALLS * CALL)
        return cost_of(held * dtype.itemsize, work + 2 * held)

    return cost


def _shape(gates: int, states: int) -> Callable[[Attrs, Sequence[Any]], Ints]:
    def shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
        steps, batch, _, count, hidden = _plan(attrs, inputs, gates, states)
        return (steps, count, batch, hidden) if attrs.get("layout", 0) == 0 else (batch, steps, count, hidden)

    return shape


def _sequence(attrs: Attrs, inputs: Sequence[Any], gates: int, states: int) -> _Sequence:
    """The inputs, with steps first and float16 as float32."""
    _, batch, _, count, hidden = _plan(attrs, inputs, gates, states)
    x, lengths, layout = inputs[0], inputs[4], attrs["layout"]
    if lengths is not None and lengths.size and not 0 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[layout]:
        raise ValueError(f"sequence_lens from {lengths.min()} to {lengths.max()}, expected 0 to {x.shape[layout]}")
    firsts = tuple(_floating(state if layout == 0 or state is None else state.swapaxes(0, 1)) for state in inputs[5:])
    return _Sequence(_floating(x if layout == 0 else x.swapaxes(0, 1)), lengths, firsts[:states], count, hidden)


def _floating(x: Any) -> Any:
    return x.astype(np.float32) if x is not None and x.dtype == np.float16 else x


Step = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]


def _direction(s: _Sequence, number: int, gates: Array, step: Step, backwards: bool, y: Array) -> Iterator[Array]:
    """Run one direction: fill y (steps, batch, hidden), and yield the last states.

    A sequence that is shorter keeps its state before its first step, or behind its last one.
    """
    batch = s.x.shape[1]
    zeros = np.zeros((batch, s.hidden), s.x.dtype)
    state = tuple(zeros if first is None else first[number] for first in s.states)
    for t in range(len(gates) - 1, -1, -1) if backwards else range(len(gates)):
        new = step(gates[t], state)
        if s.lengths is None:
            state, y[t] = new, new[0]
            continue
        inside = (t < s.lengths)[:, None]
        state = tuple(np.where(inside, a, b) for a, b in zip(new, state, strict=True))
        y[t] = np.where(inside, new[0], 0)
    yield from state


def _run(
    s: _Sequence, attrs: Attrs, w: Array, biases: Sequence[Array | None], steps: Sequence[Step], dtype: np.dtype
) -> tuple[Array, ...]:
    """Y and the last states, in the layout that is asked for."""
    length, batch, size = s.x.shape
    y = np.empty((length, s.directions, batch, s.hidden), s.x.dtype)
    lasts = []
    rows = np.ascontiguousarray(s.x).reshape(length * batch, size)
    for number, step in enumerate(steps):
        gates = (rows @ _floating(w[number]).T).reshape(length, batch, -1)
        bias = biases[number]
        if bias is not None:
            gates += bias
        backwards = attrs["direction"] == "reverse" or number == 1
        lasts.append(tuple(_direction(s, number, gates, step, backwards, y[:, number])))
    results = (y, *(np.stack(states) for states in zip(*lasts, strict=True)))
    if attrs["layout"]:
        results = (y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in results[1:]))
    return tuple(np.ascontiguousarray(result).astype(dtype, copy=False) for result in results)


def _weights(s: _Sequence, r: Array, rest: Array | None, functions: list[tuple[Function, ...]]) -> list[_Weights]:
    return [
        _Weights(_floating(r[i]).T, None if rest is None else _floating(rest[i]), functions[i])
        for i in range(s.directions)
    ]


def _summed(b: Array | None, count: int) -> list[Array | None]:
    """The sum of the biases of inputs and of states, for each direction."""
    return [None] * count if b is None else [np.add(*np.split(_floating(part), 2)) for part in b]


def _rnn_step(k: _Weights) -> Step:
    def step(z: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        return (k.functions[0](z + states[0] @ k.recurrence),)

    return step


def _gru_step(k: _Weights, before_reset: int) -> Step:
    """`rest` is the bias of the hidden gate's recurrence, where the reset gate multiplies it as well."""
    f, g = k.functions

    def step(z: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        (h,), n = states, states[0].shape[1]
        update, reset = np.split(f(z[:, : 2 * n] + h @ k.recurrence[:, : 2 * n]), 2, 1)
        last = k.recurrence[:, 2 * n :]
        if before_reset:
            product = h @ last
            hidden = reset * (product if k.rest is None else product + k.rest)
        else:
            hidden = (reset * h) @ last
        return ((1 - update) * g(z[:, 2 * n :] + hidden) + update * h,)

    return step


def _lstm_step(k: _Weights, coupled: int) -> Step:
    """Gates are input, output, forget and cell; `rest` are the peepholes of input, output and forget gates."""
    f, g, last = k.functions

    def step(z: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        h, c = states
        i, o, forget, cell = np.split(z + h @ k.recurrence, 4, 1)
        peep = (0, 0, 0) if k.rest is None else np.split(k.rest, 3)
        i = f(i + peep[0] * c)
        forget = 1 - i if coupled else f(forget + peep[2] * c)
        c = forget * c + i * g(cell)
        return f(o + peep[1] * c) * last(c), c

    return step


@general("RNN", _cost(1, 1), shape=_shape(1, 1), first=True)
def rnn(  # type: ignore[no-untyped-def]
    x,
    w,
    r,
    b=None,
    sequence_lens=None,
    initial_h=None,
    *,
    activation_alpha: Floats | None = None,
    activation_beta: Floats | None = None,
    activations: Texts | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
):
    attrs = {"direction": direction, "hidden_size": hidden_size, "layout": layout}
    s = _sequence(attrs, (x, w, r, b, sequence_lens, initial_h), 1, 1)
    found = _functions(activations, activation_alpha, activation_beta, _DEFAULTS[1], s.directions)
    weights = _weights(s, r, None, [tuple(_clipped(f, clip) for f in functions) for functions in found])
    return _run(s, attrs, w, _summed(b, s.directions), [_rnn_step(k) for k in weights], x.dtype)


@general("GRU", _cost(3, 1), shape=_shape(3, 1), first=True)
def gru(  # type: ignore[no-untyped-def]
    x,
    w,
    r,
    b=None,
    sequence_lens=None,
    initial_h=None,
    *,
    activation_alpha: Floats | None = None,
    activation_beta: Floats | None = None,
    activations: Texts | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
):
    attrs = {"direction": direction, "hidden_size": hidden_size, "layout": layout}
    s = _sequence(attrs, (x, w, r, b, sequence_lens, initial_h), 3, 1)
    found = _functions(activations, activation_alpha, activation_beta, _DEFAULTS[3], s.directions)
    rest = None
    if b is not None and linear_before_reset:  # the last gate's bias stays with the recurrence
        rest, b = b[:, 5 * s.hidden :], np.where(np.arange(6 * s.hidden) < 5 * s.hidden, b, 0)
    biases = _summed(b, s.directions)
    weights = _weights(s, r, rest, [tuple(_clipped(f, clip) for f in functions) for functions in found])
    return _run(s, attrs, w, biases, [_gru_step(k, linear_before_reset) for k in weights], x.dtype)


@general("LSTM", _cost(4, 2), shape=_shape(4, 2), first=True)
def lstm(  # type: ignore[no-untyped-def]
    x,
    w,
    r,
    b=None,
    sequence_lens=None,
    initial_h=None,
    initial_c=None,
    p=None,
    *,
    activation_alpha: Floats | None = None,
    activation_beta: Floats | None = None,
    activations: Texts | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
):
    attrs = {"direction": direction, "hidden_size": hidden_size, "layout": layout}
    s = _sequence(attrs, (x, w, r, b, sequence_lens, initial_h, initial_c, p), 4, 2)
    found = _functions(activations, activation_alpha, activation_beta, _DEFAULTS[4], s.directions)
    clipped: list[tuple[Function, ...]] = [(_clipped(f, clip), _clipped(g, clip), h) for f, g, h in found]
    weights = _weights(s, r, p, clipped)
    return _run(s, attrs, w, _summed(b, s.directions), [_lstm_step(k, input_forget) for k in weights], x.dtype)


OPS = (rnn, gru, lstm)
