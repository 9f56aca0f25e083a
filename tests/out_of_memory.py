"""Makes every allocation of every public operation fail, one at a time; a program, see test_out_of_memory.py.

``python out_of_memory.py LIBRARY LEAST MOST [ACTION ...]``: of each action at most MOST of the allocations that have at
least LEAST bytes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.compiler import eager
from fastcnn.io.weights import read_safetensors, write_safetensors

NOTHING_SET = ("returned NULL without setting an exception", "error return without exception set")
LEAK = 1 << 15  # bytes that may stay, of all failures of an action; each array has at least 720

rng = np.random.default_rng(0)
X, W, V, K = (rng.random(shape, np.float32) for shape in ((2, 3, 10, 9), (6, 3, 3, 3), (200,), (200, 270)))
G, ROWS = rng.random((2, 6, 10, 9), np.float32), X.reshape(2, 270)
C = V[:3]
OPERATIONS = {
    "conv2d": lambda: F.conv2d(X, W, padding=1), "winograd": lambda: F.conv2d(X, W, algorithm="winograd"),
    "im2col": lambda: F.conv2d(X, W, algorithm="im2col"), "linear": lambda: F.linear(ROWS, K, V),
    "conv2d_grad_input": lambda: F.conv2d_grad_input(G, W, (10, 9), padding=1),
    "conv2d_grad_weight": lambda: F.conv2d_grad_weight(X, G, (3, 3), padding=1),
    "conv2d_grad_bias": lambda: F.conv2d_grad_bias(G), "linear_grad_input": lambda: F.linear_grad_input(ROWS @ K.T, K),
    "linear_grad_weight": lambda: F.linear_grad_weight(ROWS, ROWS @ K.T),
    "linear_grad_bias": lambda: F.linear_grad_bias(ROWS), "add": lambda: F.add(X, X), "mul": lambda: F.mul(X, X),
    "concat": lambda: F.concat([X, X]), "pad": lambda: F.pad(X, (1, 2)), "flatten": lambda: F.flatten(X),
    "reshape": lambda: F.reshape(X, (-1,)), "permute": lambda: F.permute(X, (3, 0, 2, 1)),
    "narrow": lambda: F.narrow(X, 1, 1, 1), "drop_path": lambda: F.drop_path(X),
    "hardsigmoid": lambda: F.hardsigmoid(X),
    "dropout": lambda: F.dropout(X), "clip": lambda: F.clip(X, 0.2, 0.5), "softmax": lambda: F.softmax(X, 1),
    "leaky_relu": lambda: F.leaky_relu(X), "max_pool2d": lambda: F.max_pool2d(X, 2),
    "avg_pool2d": lambda: F.avg_pool2d(X, 2), "global_avg_pool2d": lambda: F.global_avg_pool2d(X),
    "batch_norm": lambda: F.batch_norm(X, C, C), "local_response_norm": lambda: F.local_response_norm(X, 3),
    "float64": lambda: F.conv2d(X.astype(np.float64), W), "strided": lambda: F.relu(X[..., ::2]),
    "max_pool2d_grad": lambda: F.max_pool2d_grad(F.max_pool2d(X, 2), X, 2),
    "avg_pool2d_grad": lambda: F.avg_pool2d_grad(F.avg_pool2d(X, 2), (10, 9), 2),
    "global_avg_pool2d_grad": lambda: F.global_avg_pool2d_grad(F.global_avg_pool2d(X), (10, 9)),
    "batch_norm_grad": lambda: F.batch_norm_grad(X, X, C)[0],
    "local_response_norm_grad": lambda: F.local_response_norm_grad(X, X, 3),
    "softmax_grad": lambda: F.softmax_grad(X, X, 1), "leaky_relu_grad": lambda: F.leaky_relu_grad(X, X),
    "clip_grad": lambda: F.clip_grad(X, X, 0.2, 0.5),
    "matmul": lambda: F.matmul(X, X.swapaxes(2, 3)),
    "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(X, X, X),
    "multi_head_attention": lambda: F.multi_head_attention(*(X[:, 0],) * 3, 3, K[:27, :9], None, K[:9, :9], None),
    **{name: (lambda name=name: getattr(F, name)(X))
       for name in ("erf", "gelu", "hardswish", "relu", "relu6", "sigmoid", "silu", "tanh")},
    **{f"{name}_grad": (lambda name=name: getattr(F, f"{name}_grad")(X, X))
       for name in ("erf", "gelu", "hardswish", "relu", "sigmoid", "silu", "tanh")},
    "layer_norm": lambda: F.layer_norm(X, 9), "rms_norm": lambda: F.rms_norm(X, 9),
    "group_norm": lambda: F.group_norm(X, 1), "instance_norm": lambda: F.instance_norm(X),
}  # fmt: skip


def network() -> fc.Model:
    model = fc.Sequential(
        fc.Conv2d(3, 8, 3, rng=0),
        fc.BatchNorm2d(8),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Flatten(),
        fc.Dropout(0.2),
        fc.Linear(96, 40, rng=0),
    )
    model.input_shape = X.shape[1:]
    return model


def compile_and_run(action):
    def run():
        eager._idle.clear()  # else an earlier plan would be taken
        return action()

    return run


def predict():
    return network()(X)


def train():
    model = network()
    trainer = fc.Trainer(model, fc.Adam(0.1), seed=1)
    loss = [trainer.step(X, np.array([0, 1])) for _ in range(2)]
    trainer.sync()
    return np.array([*loss, *(array.sum() for array in model.state_dict().values())])


def fit():
    return np.array(network().fit(X, [0, 1], epochs=1, batch_size=1, seed=1)["loss"])


def save():
    model = network()
    model.save("saved")
    return fc.load("saved")(X)


def save_over():
    write_safetensors("kept", {"a": ROWS.T, "b": ROWS})
    return np.zeros(1)


def load():
    model = fc.load(MODEL)
    return np.concatenate([model(X).ravel(), model.state_dict()["6.weight"].ravel()])


def load_weights():
    model = network()
    model.load_weights(MODEL)
    return read_safetensors(MODEL)[0]["6.weight"]


ACTIONS = {**{name: compile_and_run(action) for name, action in OPERATIONS.items()}, "predict": predict,
           "train": train, "fit": fit, "save": save, "save_over": save_over, "load": load,
           "load_weights": load_weights}  # fmt: skip


class Sweep:
    def __init__(self, library: str, least: int, most: int) -> None:
        self.library, self.least, self.most = ctypes.CDLL(library), least, most
        self.library.arm.restype = None
        self.library.arm.argtypes = [ctypes.c_long, ctypes.c_size_t]
        self.library.disarm.restype = self.library.live_bytes.restype = ctypes.c_long

    def allocations(self, action) -> int:
        self.library.arm(1 << 60, self.least)
        action()
        return self.library.disarm()

    def fail(self, action, n: int, expected: np.ndarray) -> int:
        """Run with allocation n failing, then once more; whether it failed."""
        self.library.arm(n, self.least)
        try:
            result = action()
        except MemoryError:
            return 1
        except SystemError as error:  # NumPy forgets to say so where it gets no memory for an iterator
            if not any(text in str(error) for text in NOTHING_SET):
                raise
            return 1
        finally:
            self.library.disarm()
            hidden = [name for name in os.listdir() if name.startswith(".")]
            assert not hidden and Path("kept").read_bytes() == self.kept, hidden
        np.testing.assert_array_equal(result, expected)  # it could do without
        return 0

    def live(self) -> int:
        eager._idle.clear()
        gc.collect()
        return self.library.live_bytes()

    def sweep(self, name: str, action) -> str:
        expected, _ = action(), action()
        count = self.allocations(action)
        numbers = np.unique(np.linspace(1, count, min(count, self.most)).astype(int)).tolist()
        failures = 0
        # What the first round keeps, such as caches, the second has. A leak shows in the third as well. The table of
        # interned strings does not: it may grow at any time, once, by half a megabyte.
        for turn in range(3):
            before = self.live()
            for n in numbers:
                try:
                    failures += self.fail(action, n, expected)
                    np.testing.assert_array_equal(action(), expected)
                except BaseException as error:
                    raise AssertionError(f"{name}: allocation {n} of {count}") from error
            leaked = self.live() - before
            if turn and leaked < LEAK:
                break
        assert leaked < LEAK, f"{name}: {leaked} bytes are kept after {len(numbers)} failures"
        assert not count or failures, f"{name}: {count} allocations, none of which was missed"
        return f"{name}: {len(numbers)} of {count} allocations"


def main(library: str, least: int, most: int, only: list[str]) -> None:
    global MODEL
    sweep = Sweep(library, least, most)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        MODEL = f"{other}/model"
        network().save(MODEL)
        os.chdir(folder)
        save_over()
        sweep.kept = Path("kept").read_bytes()
        for name in only or ACTIONS:
            print(sweep.sweep(name, ACTIONS[name]), flush=True)
        os.chdir(os.sep)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
