"""Operands and attributes of random size for recurrent networks, and their definition, element by element."""

from __future__ import annotations

import numpy as np

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(name):
    """The case of a random network: (inputs, attributes) from a generator."""

    def case(rng):
        steps, batch, size, hidden = (int(number) for number in rng.integers(1, 9, 4))
        direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
        count, gates, kind = 1 + (direction == "bidirectional"), GATES[name], str(rng.choice(["float32", "float16"]))

        def numbers(*shape):
            return rng.standard_normal(shape).astype(kind)

        inputs = [
            numbers(steps, batch, size),
            numbers(count, gates * hidden, size),
            numbers(count, gates * hidden, hidden),
            numbers(count, 2 * gates * hidden) if rng.random() < 0.6 else None,
            rng.integers(0, steps + 1, batch).astype(np.int32) if rng.random() < 0.4 else None,
            numbers(count, batch, hidden) if rng.random() < 0.5 else None,
        ]
        attrs = {"direction": direction, "layout": int(rng.integers(2)), "hidden_size": hidden, "output": 0}
        attrs["output"] = int(rng.integers(3 if name == "LSTM" else 2))
        attrs["clip"] = float(rng.random() + 0.5) if rng.random() < 0.3 else None
        if name == "LSTM":
            inputs += [numbers(count, batch, hidden) if rng.random() < 0.5 else None]
            inputs += [numbers(count, 3 * hidden) if rng.random() < 0.5 else None]
            attrs["input_forget"] = int(rng.random() < 0.2)
        if name == "GRU":
            attrs["linear_before_reset"] = int(rng.integers(2))
        if attrs["layout"]:
            inputs = [x.swapaxes(0, 1).copy() if i in (0, 5, 6) and x is not None else x for i, x in enumerate(inputs)]
        return inputs, attrs

    return case


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def definition(name, inputs, attrs):
    """The output in float64: image by image, gate by gate, as https://onnx.ai/onnx/operators/onnx__LSTM.html and its
    siblings write the equations."""
    x, w, r, b, lengths, h, c, p = (*inputs, *[None] * 8)[:8]
    if attrs["layout"]:
        x, h, c = (value if value is None else value.swapaxes(0, 1) for value in (x, h, c))
    (steps, batch, _), (count, _, hidden), n = x.shape, r.shape, GATES[name]
    y, lasts = np.zeros((steps, count, batch, hidden)), np.zeros((2, count, batch, hidden))
    limit = attrs["clip"] or np.inf
    for d in range(count):
        parts = [np.split(value[d].astype(np.float64), n) for value in (w, r)]
        wb, rb = np.split(np.zeros(2 * n * hidden) if b is None else b[d].astype(np.float64), 2)
        parts += [np.split(wb, n), np.split(rb, n)]
        peep = np.split(np.zeros(3 * hidden) if p is None else p[d].astype(np.float64), 3)
        for i in range(batch):
            state = [np.zeros(hidden) if v is None else v[d, i].astype(np.float64) for v in (h, c)]
            length = steps if lengths is None else int(lengths[i])
            order = range(length)
            for t in order[::-1] if attrs["direction"] == "reverse" or d else order:
                state = STEPS[name](
                    x[t, i].astype(np.float64), *state, list(zip(*parts, strict=True)), peep, limit, attrs
                )
                y[t, d, i] = state[0]
            lasts[:, d, i] = state
    found = [y, *lasts]
    if attrs["layout"]:
        found = [y.transpose(2, 0, 1, 3), *(last.swapaxes(0, 1) for last in lasts)]
    return found[attrs["output"]]


def rnn_step(x, h, c, gates, peep, limit, attrs):
    ((w, r, wb, rb),) = gates
    return np.tanh(np.clip(w @ x + r @ h + wb + rb, -limit, limit)), c


def gru_step(x, h, c, gates, peep, limit, attrs):
    z, reset = (sigmoid(np.clip(w @ x + r @ h + wb + rb, -limit, limit)) for w, r, wb, rb in gates[:2])
    w, r, wb, rb = gates[2]
    new = w @ x + wb + (reset * (r @ h + rb) if attrs["linear_before_reset"] else r @ (reset * h) + rb)
    return (1 - z) * np.tanh(np.clip(new, -limit, limit)) + z * h, c


def lstm_step(x, h, c, gates, peep, limit, attrs):
    i, o, f, g = (w @ x + r @ h + wb + rb for w, r, wb, rb in gates)
    i = sigmoid(np.clip(i + peep[0] * c, -limit, limit))
    f = 1 - i if attrs["input_forget"] else sigmoid(np.clip(f + peep[2] * c, -limit, limit))
    c = f * c + i * np.tanh(np.clip(g, -limit, limit))
    o = sigmoid(np.clip(o + peep[1] * c, -limit, limit))
    return o * np.tanh(c), c


STEPS = {"RNN": rnn_step, "GRU": gru_step, "LSTM": lstm_step}
