"""Thread counts: where they come from, and what forked processes and several callers see."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import threadpoolctl

import fastcnn
from fastcnn import functional as F
from fastcnn.kernels import _cpu

SHOW = "from fastcnn.kernels import _cpu; print(*_cpu.threads_and_source(), sep='|')"


def threads_with(**environment: str) -> list[str]:
    names = ("FASTCNN_NUM_THREADS", "OMP_NUM_THREADS")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    command = [sys.executable, "-c", SHOW]
    return subprocess.run(
        command, capture_output=True, text=True, env={**clean, **environment}, check=True
    ).stdout.strip().split("|")


@pytest.fixture(autouse=True)
def restored():
    yield
    fastcnn.set_num_threads(None)


def test_environment_in_order_of_precedence():
    assert threads_with(FASTCNN_NUM_THREADS="3", OMP_NUM_THREADS="2") == ["3", "FASTCNN_NUM_THREADS"]
    assert threads_with(OMP_NUM_THREADS="2") == ["2", "OMP_NUM_THREADS"]
    assert int(threads_with()[0]) <= len(os.sched_getaffinity(0))
    assert threads_with(FASTCNN_NUM_THREADS="many")[1] != "FASTCNN_NUM_THREADS"


def test_calls_and_contexts():
    fastcnn.set_num_threads(5)
    assert fastcnn.get_num_threads() == 5
    with fastcnn.num_threads(2):
        with fastcnn.num_threads(3):
            assert fastcnn.get_num_threads() == 3
        assert fastcnn.get_num_threads() == 2
        seen = []
        other = threading.Thread(target=lambda: seen.append(fastcnn.get_num_threads()))
        other.start()
        other.join()
        assert seen == [5]  # a context is of one Python thread
    assert fastcnn.get_num_threads() == 5


def test_limit_of_threadpoolctl_holds():
    if _cpu._openmp_at_import > 1:
        with threadpoolctl.threadpool_limits(1, user_api="openmp"):
            assert fastcnn.get_num_threads() == 1


@pytest.mark.parametrize("bad", [0, -1, 10**6, 1.5, True, "2"])
def test_bad_counts(bad):
    with pytest.raises((TypeError, ValueError), match="expected"):
        fastcnn.set_num_threads(bad)
    with pytest.raises((TypeError, ValueError), match="expected"):
        fastcnn.num_threads(bad)


FORK = """
import os, numpy as np, fastcnn
from fastcnn import functional as F
x, w = np.ones((1, 32, 64, 64), np.float32), np.ones((64, 32, 3, 3), np.float32)
fastcnn.set_num_threads(2)
expected = F.conv2d(x, w)
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(F.conv2d(x, w), expected) and fastcnn.get_num_threads() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert np.array_equal(F.conv2d(x, w), expected) and fastcnn.get_num_threads() == 2
"""


def test_forked_children_never_hang():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=120)


def test_many_callers_get_equal_bits(budget):
    rng = np.random.default_rng(0)
    model = fastcnn.zoo.lenet()
    images = rng.random((16, 2, 1, 28, 28), np.float32)
    expected = [model(image) for image in images]
    wrong = []

    def call(number: int) -> None:
        for _ in range(budget(50, 1000)):
            if not np.array_equal(model(images[number]), expected[number]):
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


FEWER = """
import numpy as np
import fastcnn
from fastcnn import zoo
from fastcnn.kernels import _step
_step.PIECE_VECTORS = 1
model = zoo.resnet20()
x = np.random.default_rng(0).standard_normal((2, *model.input_shape)).astype(np.float32)
with fastcnn.num_threads(1):
    expected = model(x)
with fastcnn.num_threads(4):
    for _ in range(20):
        np.testing.assert_array_equal(model(x), expected)
"""


@pytest.mark.parametrize("limit", ["1", "2", "3", "8"])
def test_fewer_threads_than_asked_for_do_all_the_work(limit):
    """OpenMP gives fewer where its own limit is lower: parts that were dealt to the others are done all the same."""
    environment = {**os.environ, "OMP_THREAD_LIMIT": limit}
    subprocess.run([sys.executable, "-c", FEWER], check=True, timeout=120, env=environment)


def test_floating_point_state_is_left_alone():
    """Denormals still exist after a call: no kernel leaves flush-to-zero set."""
    F.conv2d(np.ones((1, 8, 8, 8)), np.ones((8, 8, 3, 3)))
    assert np.float32(1e-38) * np.float32(1e-3) != 0
