"""Calibration: the float32 network runs on inputs, and what its values are is counted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fastcnn._progress import Progress
from fastcnn.compiler.network import compile_network
from fastcnn.graph.ir import Graph
from fastcnn.network import Network
from fastcnn.quantization.ranges import Histogram
from fastcnn.scaling import as_inputs
from fastcnn.training.data import Dataset
from fastcnn.training.loader import Batches
from fastcnn.training.predictions import data_of
from fastcnn.training.prepare import is_batch
from fastcnn.training.screen import readable

__all__ = ["calibration_inputs", "channel_means", "channel_peaks", "histograms", "values_of"]

# Values of a network that are held at once, in bytes.
MOST_BYTES = 256 << 20


def calibration_inputs(model: Network, x: Any, samples: int, on_error: str, progress: bool | None) -> np.ndarray:
    """Inputs (N, ...) of the network, at most `samples`, from everywhere in the data."""
    data = data_of(model, x)
    if data is None:
        array = x if isinstance(x, np.ndarray) and x.ndim else model._as_batch(x)
        array = as_inputs(array, model.input_shape)
        found = model._as_batch(array[_spread(len(array), samples)])
    elif isinstance(data, Dataset):
        data = readable(data.subset(_spread(len(data), samples)), on_error, progress)
        batches = Batches(data, 32, shuffle=False)
        found = np.concatenate([model._as_batch(batch.x).copy() for batch in batches.epoch(0)])
    else:
        found = _first(model, data, samples)
    if not len(found):
        raise ValueError("quantize: calibration has no inputs, expected at least one, better a hundred")
    return np.asarray(found, np.float32)


def _spread(count: int, samples: int) -> np.ndarray:
    """Places all over the data: folders have one class after the other."""
    return np.unique(np.linspace(0, count - 1, min(count, samples)).round().astype(np.intp)) if count else np.arange(0)


def _first(model: Network, batches: Any, samples: int) -> np.ndarray:
    parts: list[np.ndarray] = []
    for batch in batches:
        parts.append(model._as_batch(np.asarray(batch[0] if is_batch(batch) else batch)))
        if sum(map(len, parts)) >= samples:
            break
    return np.concatenate(parts)[:samples] if parts else np.empty((0,), np.float32)


def values_of(graph: Graph, names: Sequence[str], x: np.ndarray, most: int = 16) -> Iterator[list[np.ndarray]]:
    """Yield the values of a graph of one input, for parts of the inputs x of at most this size."""
    ((name, _),) = graph.inputs.items()
    computed = [value for value in names if value != name]
    whole = replace(graph, outputs=list(dict.fromkeys([*computed, *graph.outputs])))
    one = compile_network(whole, {name: (1, *x.shape[1:])})
    size = sum(4 * prod(one.shapes[value] or ()) for value in whole.outputs)
    count = int(np.clip(MOST_BYTES // max(1, size), 1, most))
    plans = {1: one}
    for start in range(0, len(x), count):
        part = np.ascontiguousarray(x[start : start + count])
        if len(part) not in plans:
            plans[len(part)] = compile_network(whole, {name: part.shape})
        found = dict(zip(whole.outputs, plans[len(part)].plan.run([part]), strict=True))
        yield [part if value == name else found[value] for value in names]


def histograms(graph: Graph, names: Sequence[str], x: np.ndarray, progress: bool | None) -> dict[str, Histogram]:
    """Count the values of a graph.

    Raises
    ------
    ValueError
        Naming a value that is not finite.
    """
    found = {name: Histogram() for name in names}
    with Progress("calibrating", len(x), progress) as bar:
        for arrays in values_of(graph, names, x):
            for name, array in zip(names, arrays, strict=True):
                try:
                    found[name].add(array)
                except ValueError as error:
                    raise ValueError(f"quantize: calibration: the value {name!r} {error}") from None
            bar.update(len(arrays[0]))
    return found


def channel_peaks(graph: Graph, names: Collection[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel of images."""
    peaks: dict[str, np.ndarray] = {}
    for arrays in values_of(graph, list(names), x):
        for name, array in zip(names, arrays, strict=True):
            peak = np.abs(array).max((0, 2, 3)).astype(np.float64)
            peaks[name] = np.maximum(peaks.get(name, 0.0), peak)
    return peaks


def channel_means(graph: Graph, names: Collection[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """The mean of each channel: the second axis of images, the last one of others."""
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for arrays in values_of(graph, list(names), x):
        for name, array in zip(names, arrays, strict=True):
            rows = np.moveaxis(array, 1 if array.ndim == 4 else -1, 0)
            rows = rows.reshape(len(rows), -1)
            sums[name] = sums.get(name, 0.0) + rows.sum(1, dtype=np.float64)
            counts[name] = counts.get(name, 0) + rows.shape[1]
    return {name: total / counts[name] for name, total in sums.items()}
