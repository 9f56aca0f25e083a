"""Batches: background threads load them a little ahead of the step that learns from them.

A batch depends on the seed, the epoch and its images alone. The number of threads and their order change nothing.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np

from fastcnn._arguments import as_int, as_real_array, as_seed
from fastcnn.training.augment import Augment
from fastcnn.training.data import BATCH, IMAGE, ORDER, ArraySource, Dataset, random_of
from fastcnn.training.shards import cut
from fastcnn.training.weights import weights_of_classes

__all__ = ["Batch", "Batches", "IterableBatches", "read_ahead", "with_updates"]

# Augmentation gains from a thread if an image has this many values: docs/tuning.md, "Threads". NumPy works without the
# GIL; on smaller images Python's own work outweighs NumPy's.
_WORTH_A_THREAD = 3 * 64 * 64


class Batch(NamedTuple):
    """What one step learns from: inputs (N, ...), float32, targets and weights as `Dataset` has them."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None = None


class Batches:
    """The batches of a data set, shuffled and augmented anew in every epoch.

    Parameters
    ----------
    data : Dataset
    batch_size : int
        Inputs in a batch; the last one of an epoch has the remainder.
    classes : int
        Outputs of the network. Mixup needs them, as it turns class numbers into probabilities.
    shuffle : bool
    augment : Augment, optional
    seed : int
    first_epoch : int
        Number of the epoch that counts as the first: another one has another order.
    workers : int, optional
        Threads that load batches; 0 for none. By default 2 for photos and for large images that are augmented, and 0
        otherwise.
    shards : int
        Parts of a batch that are made one by one: images are mixed within a part.

    Examples
    --------
    >>> data = Dataset.of(np.arange(5.0).reshape(5, 1), [0, 1, 0, 1, 0])
    >>> [batch.y.tolist() for batch in Batches(data, 2, shuffle=False).epoch(0)]
    [[0, 1], [0, 1], [0]]
    """

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        classes: int = 0,
        *,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        workers: int | None = None,
        shards: int = 1,
    ) -> None:
        if augment is not None and len(data.source.shape) != 3:
            raise ValueError(f"augment: inputs are of shape {data.source.shape}, expected images (C, H, W)")
        self.data, self.batch_size, self.classes = data, as_int(batch_size, "batch_size", 1), classes
        self.shuffle, self.augment, self.seed = shuffle, augment, as_seed(seed, "Batches: seed")
        self.first_epoch, self.shards = first_epoch, as_int(shards, "shards", 1)
        self._order: tuple[int, np.ndarray] = -1, np.empty(0, np.int64)
        if workers is None:
            is_large = math.prod(data.source.shape) >= _WORTH_A_THREAD
            workers = 2 if data.source.is_slow or (augment is not None and is_large) else 0
        self.workers = as_int(workers, "workers", 0)

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, beginning with number `first`."""
        return read_ahead(
            lambda number, stopped: self.batch(epoch, number, stopped), range(first, len(self)), self.workers
        )

    def indices(self, epoch: int, number: int) -> np.ndarray:
        """Return which inputs of the source a batch has."""
        epoch += self.first_epoch
        known, order = self._order
        if known != epoch:
            order = np.arange(len(self.data))
            if self.shuffle:
                order = random_of(self.seed, ORDER, epoch).permutation(order)
            order = self.data.indices[order]
            self._order = epoch, order
        return order[number * self.batch_size : (number + 1) * self.batch_size]

    def batch(self, epoch: int, number: int, stopped: Callable[[], bool] = lambda: False) -> Batch:
        """Return a batch of an epoch."""
        if self.shards == 1 or self.augment is None or not self.augment.mixes:
            return self._batch(self.indices(epoch, number), epoch, number, stopped)
        count = len(self.indices(epoch, number))
        parts = [self.shard(epoch, number, shard, stopped) for shard in range(min(count, self.shards))]
        x, y, weights = zip(*parts, strict=True)
        return Batch(np.concatenate(x), np.concatenate(y), None if weights[0] is None else np.concatenate(weights))

    def shard(self, epoch: int, number: int, shard: int, stopped: Callable[[], bool] = lambda: False) -> Batch:
        """Return a part of a batch, of as many as `shards` tells."""
        indices = self.indices(epoch, number)
        part = cut(len(indices), self.shards)[shard]
        return self._batch(indices[part], epoch, number * self.shards + shard, stopped)

    def _batch(self, indices: np.ndarray, epoch: int, number: int, stopped: Callable[[], bool]) -> Batch:
        """Load inputs; `number` tells the random numbers of what concerns several of them."""
        epoch += self.first_epoch
        source, targets = self.data.source, self.data.targets[indices]
        weights = None if self.data.weights is None else self.data.weights[indices]
        if isinstance(source, ArraySource) and self.augment is None:
            return Batch(np.ascontiguousarray(source.x[indices], np.float32), targets, weights)
        x = np.empty((len(indices), *source.shape), getattr(source, "dtype", np.float32))  # uint8 of a PixelSource
        for i, index in enumerate(indices.tolist()):
            if stopped():
                break  # nobody reads the batch
            rng = None if self.augment is None else random_of(self.seed, IMAGE, epoch, index)
            x[i] = source.load(index, self.augment, rng)
        if self.augment is not None and self.augment.mixes:
            if targets.ndim == 1:
                several = self.classes > 1
                targets = np.eye(self.classes, dtype=np.float32)[targets] if several else np.float32(targets)[:, None]
            return self._mixed(x, targets, weights, random_of(self.seed, BATCH, epoch, number))
        return Batch(x, targets, weights)

    def _mixed(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, rng: np.random.Generator) -> Batch:
        """Blend images and labels; each label keeps the weight of the input that it comes from."""
        assert self.augment is not None
        if weights is None:
            return Batch(*self.augment.mix(x, targets, rng))
        x, weighted = self.augment.mix(x, np.concatenate([targets * weights[:, None], weights[:, None]], 1), rng)
        mixed = weighted[:, -1]
        return Batch(x, (weighted[:, :-1] / np.maximum(mixed, 1e-12)[:, None]).astype(np.float32), mixed)


class IterableBatches:
    """Batches of the caller's own: an iterable of (x, y), iterated once in each epoch.

    Parameters
    ----------
    batches : iterable of (array_like, array_like)
        Or with weights of the inputs as a third.
    class_weights : ndarray (classes,), optional
        What the inputs of each class count, beside that.

    Examples
    --------
    >>> list(IterableBatches([([[1.0]], [0])]).epoch(0))
    [Batch(x=array([[1.]], dtype=float32), y=array([0]), weights=None)]
    """

    def __init__(self, batches: Iterable[Any], class_weights: np.ndarray | None = None) -> None:
        self.batches, self.class_weights = batches, class_weights

    def __len__(self) -> int:
        try:
            return len(self.batches)  # type: ignore[arg-type]
        except TypeError:
            raise ValueError(
                "fit: x is an iterable without a length, expected a list of batches, or an object with __iter__ and "
                "__len__: a schedule needs the number of batches"
            ) from None

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches, beginning with number `first`."""
        if epoch and iter(self.batches) is self.batches:
            raise ValueError(
                "fit: x is an iterator, which can be iterated only once, expected epochs=1, or an iterable such as "
                "a list, or an object with __iter__"
            )
        for number, pair in enumerate(self.batches):
            if number < first:
                continue
            if not isinstance(pair, (tuple, list)) or len(pair) not in (2, 3):
                raise TypeError(f"fit: x yields {type(pair).__name__}, expected pairs (x, y) of batches")
            x, y = pair[:2]
            data = Dataset.of(x, y)
            weights = None if len(pair) == 2 else as_real_array(pair[2], "fit: weights").astype(np.float64)
            if self.class_weights is not None:
                weights = weights_of_classes(data.targets, self.class_weights, weights)
            source: Any = data.source
            yield Batch(np.ascontiguousarray(source.x, np.float32), data.targets, weights)


def with_updates(batches: Iterator[Batch], every: int, first: int) -> Iterator[tuple[Batch, bool]]:
    """Yield the batches, and whether an update follows: after each `every` from number `first` on, and the last.

    Examples
    --------
    >>> batches = IterableBatches([([[1.0]], [0])] * 5)
    >>> [update for _, update in with_updates(batches.epoch(0), 2, 0)]
    [False, True, False, True, True]
    """
    try:
        batch = next(batches, None)
        for number in count(first + 1):
            if batch is None:
                return
            following = next(batches, None) if number % every else batch  # none is fetched ahead without need
            yield batch, number % every == 0 or following is None
            batch = following if number % every else next(batches, None)
    finally:
        batches.close()  # type: ignore[attr-defined]


def read_ahead(make: Callable[[int, Callable[[], bool]], Any], numbers: Iterable[int], workers: int) -> Iterator[Any]:
    """Yield ``make(number, stopped)`` for each number, in order; `workers` threads work one or two batches ahead.

    ``stopped()`` becomes true, and all threads end, when the iterator is closed or anything fails on either side. A
    forked child has none of the threads and makes the remaining batches itself.

    Examples
    --------
    >>> list(read_ahead(lambda number, stopped: number**2, range(4), workers=2))
    [0, 1, 4, 9]
    """
    stop = threading.Event()
    if workers == 0:
        yield from (make(number, stop.is_set) for number in numbers)
        return
    rest = iter(numbers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fastcnn-data")
    parent = os.getpid()
    pending: deque[tuple[int, Future[Any]]] = deque()
    try:
        while os.getpid() == parent:
            # One task more than threads: a thread that is done finds work at once.
            for number in islice(rest, workers + 1 - len(pending)):
                pending.append((number, pool.submit(make, number, stop.is_set)))
            if not pending:
                return
            yield pending.popleft()[1].result()
        for number in (*(number for number, _ in pending), *rest):
            yield make(number, stop.is_set)
    finally:
        if os.getpid() == parent:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
