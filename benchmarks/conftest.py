"""Adds a table to that of pytest-benchmark, with GFLOP/s and percent of a peak: that of multiply-adds, and for the
algorithm "bytes" that of products of bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest

from fastcnn.kernels import _cpu, _int8


class Row(NamedTuple):
    """The speed of one algorithm on one layer: `rate` is in FLOP/s."""

    isa: str
    layer: str
    algorithm: str
    rate: float

    @property
    def percent(self) -> float:
        """Percent of the peak of the threads in use."""
        return 100 * self.rate / peak(self.isa, self.algorithm == "bytes")


_rows: list[Row] = []


@cache
def peak(isa: str, of_bytes: bool) -> float:
    """Peak of the threads in use, in operations per second: of multiply-adds, or of products of bytes."""
    previous = _cpu.set_isa(isa)
    try:
        measure = _int8.measure_int8_peak if of_bytes else _cpu.measure_peak
        return measure(0.2) * _cpu.get_num_threads()
    finally:
        _cpu.set_isa(previous)


@pytest.fixture
def report(benchmark) -> Callable[[str, str, int, float], None]:
    """Return a function that adds a row to the table: report(layer, algorithm, operations, seconds)."""

    def add(layer: str, algorithm: str, operations: int, seconds: float) -> None:
        row = Row(_cpu.isa(), layer, algorithm, operations / seconds)
        rows = benchmark.extra_info.setdefault("rows", [])
        rows.append({**row._asdict(), "gflops": row.rate / 1e9, "percent_of_peak": row.percent})
        _rows.append(row)

    return add


def pytest_terminal_summary(terminalreporter) -> None:
    for isa in dict.fromkeys(row.isa for row in _rows):
        own = [row for row in _rows if row.isa == isa]
        width = max(len(row.layer) for row in own)
        terminalreporter.section(f"{isa}, {_cpu.get_num_threads()} thread(s), medians")
        terminalreporter.write_line(f"{'layer':{width}} {'algorithm':10} {'GFLOP/s':>9} {'% of peak':>10}")
        for row in own:
            terminalreporter.write_line(
                f"{row.layer:{width}} {row.algorithm:10} {row.rate / 1e9:9.1f} {row.percent:10.0f}"
            )
