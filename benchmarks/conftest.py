"""Adds to pytest-benchmark's table what its columns cannot say: GFLOP/s, and the part of the multiply-add peak."""

from __future__ import annotations

import pytest

from fastcnn.kernels import _cpu

_rows: list[tuple[str, str, float, float]] = []


@pytest.fixture(scope="session")
def peak() -> float:
    """Multiply-add peak of the threads in use, in FLOP/s."""
    return _cpu.measure_peak(0.2) * _cpu.get_num_threads()


@pytest.fixture
def report(benchmark, peak):
    """report(layer, algorithm, operations): call after the benchmark has run."""

    def add(layer: str, algorithm: str, operations: int) -> None:
        if benchmark.stats is None:  # --benchmark-disable
            return
        rate = operations / benchmark.stats.stats.median
        benchmark.extra_info.update(gflops=rate / 1e9, percent_of_peak=100 * rate / peak, isa=_cpu.isa())
        _rows.append((layer, algorithm, rate / 1e9, 100 * rate / peak))

    return add


def pytest_terminal_summary(terminalreporter) -> None:
    if not _rows:
        return
    terminalreporter.section(f"{_cpu.isa()}, {_cpu.get_num_threads()} thread(s), medians")
    terminalreporter.write_line(f"{'layer':34} {'algorithm':10} {'GFLOP/s':>9} {'% of peak':>10}")
    for layer, algorithm, gflops, percent in _rows:
        terminalreporter.write_line(f"{layer:34} {algorithm:10} {gflops:9.1f} {percent:10.0f}")
