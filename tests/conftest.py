"""What all tests share: every instruction set of this machine, memory with guards, and the size of random tests.

Messages that are longer than a screen fail whatever test provokes them.
"""

from __future__ import annotations

import os
import signal

import pytest
from memory_guard import guarded
from screen_of_text import check_messages

from fastcnn.compiler import compile as compiling
from fastcnn.compiler import eager, plan
from fastcnn.compiler.verify import verify
from fastcnn.kernels import _cpu, _int8, _step, storage

THREADS = (1, 2, 3)

# A job in the background starts with Ctrl-C ignored, and so would all that its tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

check_messages()
compiling.after_pass = verify  # whatever tests compile is verified after each pass


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="run random tests with their large budgets")
    parser.addoption("--beside", default="", help="libraries to run beside, in test_neighbours.py: torch,onnxruntime")
    parser.addoption("--ray", action="store_true", help="run the tests that need fastcnn[ray], and no others")
    parser.addoption("--benchmark", action="store_true", help="tell how long each tile takes (kernels/test_tiles.py)")


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--ray")
    left_out = [item for item in items if bool(item.get_closest_marker("ray")) != wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture
def budget(request):
    """budget(push, nightly): how many random cases to run."""
    nightly = request.config.getoption("--nightly")
    return lambda push, large: large if nightly else push


@pytest.fixture(params=[_cpu.isa()] if os.environ.get("FASTCNN_ISA") else _cpu.available_isas())
def isa(request):
    """Each instruction set that this machine runs, in turn; the one that FASTCNN_ISA forces is alone."""
    previous = _cpu.set_isa(request.param)
    yield request.param
    _cpu.set_isa(previous)


def _int8_tables():
    """Every table of bytes that this machine runs, each beside its instruction set of floats."""
    before, found = _cpu.isa(), []
    for name in _cpu.available_isas():
        _cpu.set_isa(name)
        found += [(name, table) for table in _int8.int8_names()]
    _cpu.set_isa(before)
    return found


@pytest.fixture(params=_int8_tables(), ids="-".join)
def int8_isa(request):
    """Each table of bytes in turn, and its instruction set of floats."""
    isa, name = request.param
    previous, wanted = _cpu.set_isa(isa), _int8.set_int8_isa(None)
    _int8.set_int8_isa(name)
    assert _int8.int8_isa() == name
    yield name
    _int8.set_int8_isa(wanted)
    _cpu.set_isa(previous)


@pytest.fixture
def poisoned(monkeypatch):
    """Arenas and scratch memory full of NaN, each ending at a page that must not be touched; no plan is reused, and
    small work is shared by threads too, in as many pieces as possible."""
    for name in ("allocate", "allocate_arena"):
        monkeypatch.setattr(storage, name, lambda floats: guarded((max(1, floats),)))
    monkeypatch.setattr(plan, "OPERATIONS_PER_THREAD", 1)
    monkeypatch.setattr(_step, "PIECE_VECTORS", 1)
    monkeypatch.setattr(eager, "KEPT_PLANS", 0)
    eager._idle.clear()
