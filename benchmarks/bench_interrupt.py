"""Times Ctrl-C: from the signal, at random times, to KeyboardInterrupt or to the end of `fit`.

    python benchmarks/bench_interrupt.py [--times 50] [--networks lenet resnet18 vgg16]

The output has the median, the 99th percentile and the maximum in milliseconds, for predictions of 32 images and for
training.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
import time
import warnings

import numpy as np

import fastcnn as fc
from fastcnn._table import Columns


def prediction(name: str):
    """Return a call that predicts until KeyboardInterrupt."""
    model = getattr(fc.zoo, name)()
    x = np.random.default_rng(0).random((32, *model.input_shape), np.float32)
    model.predict_proba(x[:1])

    def call() -> None:
        while True:
            model.predict_proba(x)

    return call


def training(name: str):
    """Return a call that trains until it is interrupted."""
    batch = 64 if name == "lenet" else 16
    model = getattr(fc.zoo, name)()
    x = np.random.default_rng(0).random((batch, *model.input_shape), np.float32)
    y = np.arange(batch) % 10
    return lambda: model.fit(x, y, epochs=10**6, batch_size=batch, optimizer=fc.SGD(1e-4), progress=False)


def latency(call, delay: float) -> float:
    """Send the signal `delay` seconds after the call begins. Return the seconds from it to the end of the call."""
    sent: list[float] = []

    def press() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, press)
    timer.start()
    with contextlib.suppress(KeyboardInterrupt):
        call()
    return time.perf_counter() - sent[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--networks", nargs="+", default=["lenet", "resnet18", "vgg16"])
    options = parser.parse_args()
    warnings.simplefilter("ignore", fc.FastcnnWarning)
    rng = np.random.default_rng(0)
    headings = ["call", "median ms", "p99 ms", "max ms"]
    columns = Columns([24, 10, 10, 10], left={0})
    print(columns.line(headings))
    for name in options.networks:
        for what in (prediction, training):
            call = what(name)
            times = [1e3 * latency(call, rng.uniform(0.05, 1.5)) for _ in range(options.times)]
            row = np.median(times), np.percentile(times, 99), max(times)
            print(columns.line([f"{name} {what.__name__}", *(f"{value:.1f}" for value in row)]), flush=True)


if __name__ == "__main__":
    main()
