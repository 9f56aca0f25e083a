"""`fastcnn bench`: convolution kernels on layers of well-known networks, beside NumPy."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn._table import Columns
from fastcnn.cli._models import add_threads
from fastcnn.cli._shapes import LAYERS, Layer
from fastcnn.compiler.choose import ALGORITHMS, Problem
from fastcnn.kernels import _cpu

ROUNDS = 7  # measurements whose median counts, engines in turn
COLUMNS = Columns([34, 10, 9, 9, 10], left={0, 1}, gap=" ")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = "example: fastcnn bench --threads 1"
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, and print the table."""
    _cpu.set_num_threads(options.threads)
    threads = _cpu.get_num_threads()
    with _numpy_threads(threads):
        return _measure_all(options.json, threads)


def _numpy_threads(threads: int) -> contextlib.AbstractContextManager[Any]:
    """NumPy's matrix product on as many threads, where threadpoolctl is there to tell it so."""
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_limits

        limits: contextlib.AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
        return limits
    return contextlib.nullcontext()


def _measure_all(as_json: bool, threads: int) -> int:
    peak = _cpu.measure_peak(0.2) * threads
    rows = []
    if not as_json:
        print(
            f"{_cpu.isa()}, {threads} thread(s); multiply-add peak {peak / 1e9:.0f} GFLOP/s; eager calls, packing "
            "and reordering included"
        )
        print(COLUMNS.line(["layer", "algorithm", "ms", "GFLOP/s", "% of peak"]))
    for layer in LAYERS:
        for name, seconds in measure(layer).items():
            rate = layer.operations / seconds
            rows.append(
                {
                    "layer": layer.name,
                    "algorithm": name,
                    "ms": 1e3 * seconds,
                    "gflops": rate / 1e9,
                    "percent_of_peak": 100 * rate / peak,
                }
            )
            if not as_json:
                print(
                    COLUMNS.line(
                        [layer.name, name, f"{1e3 * seconds:.3f}", f"{rate / 1e9:.1f}", f"{100 * rate / peak:.0f}"]
                    ),
                    flush=True,
                )
    if as_json:
        print(json.dumps({"isa": _cpu.isa(), "threads": threads, "peak_gflops": peak / 1e9, "rows": rows}, indent=2))
    return 0


def candidates(layer: Layer) -> dict[str, Callable[[], Any]]:
    """Ways to compute a layer: each algorithm that takes it, and NumPy."""
    x, weight = layer.arrays()
    problem = Problem(
        x.shape[1],
        weight.shape[0],
        layer.groups,
        (layer.kernel, layer.kernel),
        (layer.stride, layer.stride),
        (1, 1),
        _cpu.vector_length(),
        (layer.out, layer.out),
        packed_ahead=False,
    )
    calls: dict[str, Callable[[], Any]] = {}
    for entry in ALGORITHMS:
        if not entry.why_not(problem):
            calls[entry.name] = partial(
                functional.conv2d, x, weight, None, layer.stride, layer.padding, 1, layer.groups, entry.name
            )
    calls["NumPy"] = partial(numpy_conv2d, x, weight, layer)
    return calls


def measure(layer: Layer) -> dict[str, float]:
    """Median seconds of each candidate, taken in turn so that a slow moment of the machine meets all of them."""
    calls = candidates(layer)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = perf_counter()
            call()
            times[name].append(perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def numpy_conv2d(x: np.ndarray, weight: np.ndarray, layer: Layer) -> np.ndarray:
    """im2col and matmul in float32: what one writes in NumPy."""
    pad, k, groups = layer.padding, layer.kernel, layer.groups
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, :: layer.stride, :: layer.stride]
    n, c, oh, ow = windows.shape[:4]
    columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, groups, c // groups * k * k, oh * ow)
    result: np.ndarray = (weight.reshape(groups, -1, c // groups * k * k) @ columns).reshape(n, -1, oh, ow)
    return result
