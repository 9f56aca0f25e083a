"""Thread counts: of calls, contexts and processes, and what forked processes and several callers see."""

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


@pytest.fixture(autouse=True)
def restored():
    yield
    fastcnn.set_num_threads(None)


def test_configuration_tells_the_numbers_of_calls():
    fastcnn.set_num_threads(5)
    with fastcnn.num_threads(2):
        assert _cpu.thread_numbers()[:2] == [("num_threads context", 2), ("set_num_threads", 5)]


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


MODEL = fastcnn.zoo.lenet()
DIGITS = np.random.default_rng(0).random((6, *MODEL.input_shape), np.float32)
PHOTOS = fastcnn.zoo.resnet20()  # of which a single one is shared by threads
PHOTOS.preprocess = lambda photo: photo[None]
PREPARED = fastcnn.prepare(MODEL, DIGITS.shape)
CALLS = {
    "a model": lambda **given: MODEL(DIGITS, **given),
    "a model's out": lambda **given: MODEL(DIGITS, out=np.empty((6, 10), np.float32), **given),
    "probabilities": lambda **given: MODEL.predict_proba(DIGITS, 4, **given),
    "probabilities of a data set": lambda **given: MODEL.predict_proba(list(DIGITS), 4, **given),
    "classes": lambda **given: MODEL.predict(DIGITS, **given),
    "classes of a data set": lambda **given: MODEL.predict(list(DIGITS), **given),
    "a photo": lambda **given: [
        found.probability for found in PHOTOS.classify(np.ones((3, 32, 32), np.float32), **given)
    ],
    "a prepared model": lambda **given: PREPARED(DIGITS, **given),
}


@pytest.mark.parametrize("name", CALLS)
def test_threads_of_a_call(name, monkeypatch):
    """They are those of the context of the same number, of this call alone; bits are the same."""
    call, wanted, ask = CALLS[name], [], _cpu.get_num_threads
    monkeypatch.setattr(_cpu, "get_num_threads", lambda: wanted.append(ask()) or wanted[-1])
    with fastcnn.num_threads(4):
        expected = call()
        assert set(wanted) == {4}
        wanted.clear()
        np.testing.assert_array_equal(call(num_threads=3), expected)
        assert set(wanted) == {3}
        assert ask() == 4


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("bad", [0, -1, 1025, 1.5, True, "2", [1]])
def test_bad_threads_of_a_call(name, bad):
    with pytest.raises((TypeError, ValueError), match=r"^num_threads=.*expected a"):
        CALLS[name](num_threads=bad)


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
