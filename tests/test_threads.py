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
    return (
        subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, check=True)
        .stdout.strip()
        .split("|")
    )


@pytest.fixture(autouse=True)
def restored():
    yield
    fastcnn.set_num_threads(None)


def test_environment_in_order_of_precedence():
    assert threads_with(FASTCNN_NUM_THREADS="3", OMP_NUM_THREADS="2") == ["3", "FASTCNN_NUM_THREADS"]
    assert threads_with(OMP_NUM_THREADS="2") == ["2", "OMP_NUM_THREADS"]
    assert int(threads_with()[0]) <= len(os.sched_getaffinity(0))
    for text in ("many", "²", "-1", "0"):
        assert threads_with(FASTCNN_NUM_THREADS=text)[1] != "FASTCNN_NUM_THREADS"


def test_strictest_quota_of_nested_control_groups_holds(tmp_path, monkeypatch):
    """A control group has what all above it leave."""
    folders = [tmp_path, tmp_path / "service", tmp_path / "service" / "worker"]
    for folder, text in zip(folders, ("max 100000", "150000 100000", "800000 100000"), strict=True):
        folder.mkdir(exist_ok=True)
        (folder / "cpu.max").write_text(text)
    monkeypatch.setattr(_cpu, "_control_groups", lambda: [(str(folder), 2) for folder in folders])
    assert _cpu._quota() == (2, str(folders[1]))
    (folders[2] / "cpu.max").write_text("50000 100000")
    assert _cpu._quota() == (1, str(folders[2]))
    for folder in folders:
        (folder / "cpu.max").unlink()
    assert _cpu._quota() is None
    for folder, quota in zip(folders, ("-1", "300000", "-1"), strict=True):
        (folder / "cpu.cfs_quota_us").write_text(quota)
        (folder / "cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(_cpu, "_control_groups", lambda: [(str(folder), 1) for folder in folders])
    assert _cpu._quota() == (3, str(folders[1]))


def shown(**environment: str) -> dict[str, str]:
    """What `show_config` prints in a process of its own, by topic."""
    command = [sys.executable, "-c", "import fastcnn; fastcnn.show_config()"]
    answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    return dict(line.split(": ", 1) for line in answer.stdout.splitlines())


def test_configuration_says_where_each_number_comes_from():
    topics = shown(FASTCNN_NUM_THREADS="3", OMP_NUM_THREADS="5", OMP_THREAD_LIMIT="2", FASTCNN_ISA="generic")
    assert topics["threads"] == "2 (limit of the OpenMP runtime)"
    numbers = dict(number.rsplit(": ", 1) for number in topics["threads, the strongest first"].split("; "))
    assert list(numbers.items())[:4] == [
        ("num_threads context", "says nothing"),
        ("set_num_threads", "says nothing"),
        ("FASTCNN_NUM_THREADS", "3"),
        ("OMP_NUM_THREADS", "5"),
    ]
    assert numbers["processors this process may run on"] == str(len(os.sched_getaffinity(0)))
    assert numbers["limit of the OpenMP runtime"] == "2"
    assert topics["instruction set"].startswith("generic (FASTCNN_ISA; ")
    assert shown(FASTCNN_ISA="")["instruction set"].startswith(f"{_cpu.available_isas()[0]} (the fastest usable one; ")


def test_configuration_tells_the_numbers_of_calls():
    fastcnn.set_num_threads(5)
    with fastcnn.num_threads(2):
        assert _cpu.thread_numbers()[:2] == [("num_threads context", 2), ("set_num_threads", 5)]


def test_the_smaller_of_quota_and_processors_counts(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(_cpu, "_control_groups", lambda: [(str(tmp_path), 2)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    numbers = _cpu._environment_numbers()[2:]
    quota = f"quota of the control group {tmp_path}"
    assert numbers == [(quota, 1), ("processors this process may run on", 3)]
    (tmp_path / "cpu.max").write_text("400000 100000")
    assert _cpu._environment_numbers()[2:] == [("processors this process may run on", 3), (quota, 4)]


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


FORK_BESIDE_OPENMP = """
import os, signal, sys, numpy as np, fastcnn
from sklearn.cluster import KMeans
points = np.random.default_rng(0).random((2000, 8))
KMeans(20, n_init=1, random_state=0).fit(points)  # its threads are OpenMP's
model, x = fastcnn.zoo.resnet20(), np.ones((4, 3, 32, 32), np.float32)
fastcnn.set_num_threads(2)
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if model(x).shape == (4, 10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_forked_children_of_openmp_never_hang(budget):
    """Another library has used OpenMP before the fork, this one no threads: the child has threads of its own."""
    forks = str(budget(20, 500))
    command = [sys.executable, "-W", "ignore", "-c", FORK_BESIDE_OPENMP, forks]
    subprocess.run(command, check=True, timeout=budget(120, 3600))


FORK_WITHIN_A_RUN = """
import os, signal, threading, numpy as np, fastcnn
model, x = fastcnn.zoo.resnet18(), np.ones((16, 3, 224, 224), np.float32)
fastcnn.set_num_threads(2)
model(x)
children = []
def fork(number, frame):
    children.append(os.fork())
signal.signal(signal.SIGUSR1, fork)
timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
timer.start()
try:
    while not children:
        y = model(x)
except RuntimeError as error:
    assert children == [0] and "forked" in str(error), error
if children == [0]:
    signal.alarm(60)
    os._exit(0 if np.isfinite(model(x[:1])).all() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
"""


def test_fork_by_a_signal_handler_within_a_run():
    """The child has lost the threads that were at work: the call raises there, or is done, and the next one works."""
    for _ in range(3):
        subprocess.run([sys.executable, "-W", "ignore", "-c", FORK_WITHIN_A_RUN], check=True, timeout=120)


MASKS = """
import pathlib, signal, time, numpy as np, fastcnn
fastcnn.set_num_threads(3)
before = set(pathlib.Path("/proc/self/task").iterdir())
fastcnn.zoo.resnet20()(np.ones((4, 3, 32, 32), np.float32))
workers = set(pathlib.Path("/proc/self/task").iterdir()) - before
time.sleep(1)  # until a thread has begun, the system blocks all of its signals
masks = [int((worker / "status").read_text().partition("SigBlk:")[2].split()[0], 16) for worker in workers]
for mask in masks:
    blocked = {number for number in signal.valid_signals() if mask >> number - 1 & 1}
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM} <= blocked
    assert not {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL} & blocked
print(len(masks))
"""


def test_workers_take_no_signals_but_their_own_faults():
    """The program's threads handle signals; a fault in a worker is reported by whoever has a handler for it."""
    answer = subprocess.run([sys.executable, "-c", MASKS], check=True, timeout=120, capture_output=True, text=True)
    assert answer.stdout == "2\n"


NO_THREADS = """
import resource, warnings
import numpy as np
import fastcnn
model, x = fastcnn.zoo.resnet20(), np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
with fastcnn.num_threads(1):
    expected = model(x)
plan = model._cache.get(model, x.shape).plan
plan._idle[:] = [plan._take(8)]  # its memory is there, only that of threads is not
fastcnn.set_num_threads(8)
size = [int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize")][0]
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 10), resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    results = [model(x) for _ in range(3)]
assert all(np.array_equal(result, expected) for result in results)
(warning,) = caught
assert warning.category is fastcnn.FastcnnWarning, warning
print(warning.message)
"""


def test_where_the_system_has_no_threads_the_caller_does_all():
    answer = subprocess.run([sys.executable, "-c", NO_THREADS], check=True, timeout=120, capture_output=True, text=True)
    assert answer.stdout == "8 threads were asked for, the system has given 1\n"


def test_many_callers_get_equal_bits():
    rng = np.random.default_rng(0)
    model = fastcnn.zoo.lenet()
    images = rng.random((16, 2, 1, 28, 28), np.float32)
    expected = [model(image) for image in images]
    wrong = []

    def call(number: int) -> None:
        for _ in range(1000):
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
    """Where OpenMP's own limit is lower, it holds."""
    environment = {**os.environ, "OMP_THREAD_LIMIT": limit}
    subprocess.run([sys.executable, "-c", FEWER], check=True, timeout=120, env=environment)


def test_floating_point_state_is_left_alone():
    """Denormals still exist after a call: no kernel leaves flush-to-zero set."""
    F.conv2d(np.ones((1, 8, 8, 8)), np.ones((8, 8, 3, 3)))
    assert np.float32(1e-38) * np.float32(1e-3) != 0
