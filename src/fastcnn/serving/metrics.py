"""Counters, gauges and histograms in Prometheus' text format, version 0.0.4.

It is written here, as the format is a page long. The official client brings a registry of the process, which the
application around this one may have already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Metric:
    kind = ""

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._lock = threading.Lock()

    def lines(self) -> Iterator[str]:
        """The metric as text."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterator[str]:
        raise AssertionError("a kind of metric has samples")

    def _line(
        self, values: Sequence[str], number: float, suffix: str = "", more: Sequence[tuple[str, str]] = ()
    ) -> str:
        pairs = [*zip(self.labels, values, strict=True), *more]
        text = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
        return f"{self.name}{suffix}{f'{{{text}}}' if pairs else ''} {_exact(number)}"


def _exact(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(float(number))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Counter(_Metric):
    """A number that grows, for each combination of labels.

    Examples
    --------
    >>> counter = Counter("images_total", "Images.", ["model"])
    >>> counter.add(2, "cats")
    >>> list(counter.lines())[-1]
    'images_total{model="cats"} 2'
    """

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:
        super().__init__(name, help, labels)
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, number: float, *values: str) -> None:
        """Count."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + number

    def value(self, *values: str) -> float:
        """Return what was counted."""
        with self._lock:
            return self._values.get(values, 0)

    def _samples(self) -> Iterator[str]:
        with self._lock:
            found = sorted(self._values.items())
        return (self._line(values, number) for values, number in found)


class Gauge(_Metric):
    """Numbers that are asked for when the metrics are read.

    Parameters
    ----------
    read : callable
        Returns pairs of labels and number.
    """

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help: str,
        labels: Sequence[str],
        read: Callable[[], Sequence[tuple[tuple[str, ...], float]]],
    ) -> None:
        super().__init__(name, help, labels)
        self._read = read

    def _samples(self) -> Iterator[str]:
        return (self._line(values, number) for values, number in self._read())


class Histogram(_Metric):
    """How many values are at most as large as some bounds.

    Examples
    --------
    >>> histogram = Histogram("size", "Sizes.", [], [1, 2])
    >>> histogram.observe(2)
    >>> list(histogram.lines())[2:]
    ['size_bucket{le="1"} 0', 'size_bucket{le="2"} 1', 'size_bucket{le="+Inf"} 1', 'size_sum 2', 'size_count 1']
    """

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, help, labels)
        self._bounds = tuple(bounds)
        self._found: dict[tuple[str, ...], tuple[list[int], float]] = {}

    def observe(self, value: float, *values: str) -> None:
        """Count a value."""
        place = sum(value > bound for bound in self._bounds)
        with self._lock:
            counts, total = self._found.get(values, ([0] * (len(self._bounds) + 1), 0.0))
            counts[place] += 1
            self._found[values] = counts, total + value

    @contextmanager
    def timed(self, *values: str) -> Iterator[None]:
        """Count the seconds of a block."""
        start = perf_counter()
        try:
            yield
        finally:
            self.observe(perf_counter() - start, *values)

    def _samples(self) -> Iterator[str]:
        with self._lock:
            found = [(values, list(counts), total) for values, (counts, total) in sorted(self._found.items())]
        for values, counts, total in found:
            so_far = 0
            for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), counts, strict=True):
                so_far += count
                yield self._line(values, so_far, "_bucket", [("le", bound)])
            yield self._line(values, total, "_sum")
            yield self._line(values, so_far, "_count")


class Metrics:
    """The metrics of a service.

    Parameters
    ----------
    waiting : callable
        Returns the photos that wait, by model.
    """

    def __init__(self, waiting: Callable[[], Sequence[tuple[tuple[str, ...], float]]]) -> None:
        names = ["model"]
        self.requests = Counter("fastcnn_requests_total", "Requests by model and status.", ["model", "status"])
        self.images = Counter("fastcnn_images_total", "Images that were classified.", names)
        self.refused = Counter("fastcnn_refused_images_total", "Images that were not classified.", ["model", "reason"])
        self.reloads = Counter("fastcnn_reloads_total", "Times that a model's file was replaced.", ["model", "result"])
        self.seconds = Histogram("fastcnn_request_seconds", "Seconds of requests.", names, _SECONDS)
        self.inference = Histogram("fastcnn_inference_seconds", "Seconds of batches.", names, _SECONDS)
        self.batches = Histogram("fastcnn_batch_size", "Images in a batch.", names, (1, 2, 4, 8, 16, 32, 64))
        self.queue = Gauge("fastcnn_pending_images", "Images that wait or are computed.", names, waiting)

    def text(self) -> str:
        """Return all of them."""
        return "\n".join(line for metric in vars(self).values() for line in metric.lines()) + "\n"
