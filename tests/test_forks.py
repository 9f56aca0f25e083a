"""Forks: a child answers, whatever the threads of its parent were doing. Who forks under load is forks.py's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import forks
import pytest

import fastcnn as fc

HERE = Path(__file__).parent
SOURCE = Path(fc.__file__).parent
BEGIN = """
import os, signal, sys, threading, warnings
import numpy as np
import fastcnn as fc
from fastcnn import functional as F
warnings.simplefilter("ignore")

def in_child(work):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

def hold(*locks):
    '''Another thread takes the locks and keeps them.'''
    held = threading.Event()
    def work():
        for lock in locks:
            lock.acquire()
        held.set()
        threading.Event().wait()
    threading.Thread(target=work, daemon=True).start()
    held.wait()

x, y = np.random.default_rng(0).standard_normal((8, 16), np.float32), np.arange(8) % 4
def network():
    with fc.layers.seeded(0):
        return fc.Sequential(fc.Linear(16, 24), fc.ReLU(), fc.Linear(24, 4))
def state(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}
"""


def run(*command, timeout=600, **environment):
    result = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), **environment},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def script(text, *arguments, **environment):
    return run("-c", BEGIN + textwrap.dedent(text), *arguments, **environment)


@pytest.mark.parametrize("scenario", forks.SCENARIOS)
def test_children_of_busy_parents(scenario, budget):
    assert f" 0 of {budget(20, 500)} hang" in run(str(HERE / "forks.py"), scenario, str(budget(20, 500)), timeout=7200)


def test_every_lock_is_a_guards():
    """Which no fork leaves locked; NumPy's generators have a lock, too, so that none is shared by all.

    Servers, and what runs on many processes, own the threads that share their locks: no child of a fork uses them.
    """
    made = re.compile(
        r"\b(Lock|RLock|Condition|Semaphore|Barrier|Queue|SimpleQueue)\(|cached_property|^\w+ = .*default_rng", re.M
    )
    own_threads = {"serving", "studio", "distributed", "shard_engine.py", "shard_sync.py"}
    sources = [path for path in SOURCE.rglob("*.py*") if path.suffix in (".py", ".pyx")]
    sources = [path for path in sources if own_threads.isdisjoint(path.parts)]
    found = [path.name for path in sources if made.search(path.read_text())]
    assert found == ["_forks.py"]


def test_all_locks_held_by_another_thread():
    script("""
        from fastcnn import _forks
        from fastcnn.io.image import load_image
        model, photo = network(), np.zeros((4, 4, 3), np.uint8)
        trainer = fc.Trainer(model, fc.SGD(0.1))
        trainer.step(x, y)
        model(x)
        trainer.step(x, y)
        load_image(photo)
        guards = list(_forks._guards)
        assert len(guards) >= 4
        hold(*[guard.lock for guard in guards])
        def work():
            assert np.isfinite(model(x)).all() and not F.relu(-x[:, :3]).all()
            trainer.step(x, y)
            model.state_dict(), fc.Linear(3, 3), load_image(photo)
            model[0].bias = np.zeros(24)
        in_child(work)
        os._exit(0)
    """)


def test_the_thread_that_forks_keeps_its_own_lock():
    script("""
        from fastcnn._forks import Guard
        called = []
        def orphaned():
            called.append(1)
        free, mine, others = Guard(orphaned), Guard(orphaned), Guard(orphaned)
        hold(others.lock)
        lock = mine.lock
        def work():
            assert mine.lock is lock and called == [1]
            for guard, is_free in ((free, True), (mine, False), (others, True)):
                got = []
                thread = threading.Thread(target=lambda: got.append(guard.lock.acquire(blocking=False)), daemon=True)
                thread.start(), thread.join()
                assert got == [is_free]
        with mine.lock:
            in_child(work)
        os._exit(0)
    """)


def test_a_child_forked_in_the_middle_of_another_threads_step():
    """It has what had been looked at last, and trains on from there."""
    script("""
        from fastcnn.compiler.plan import Plan
        model = network()
        trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
        for _ in range(3):
            trainer.step(x, y)
        known = state(model)
        trainer.step(x, y)  # nobody looks at this one
        run, inside, go_on = Plan.run, threading.Event(), threading.Event()
        def halting(plan, inputs, outputs=None, done=None):
            if done is not None and threading.current_thread() is not threading.main_thread():
                for array in inputs[4:]:
                    array += 1  # half a step
                inside.set()
                go_on.wait()
                for array in inputs[4:]:
                    array -= 1
            return run(plan, inputs, outputs, done)
        Plan.run = halting
        thread = threading.Thread(target=trainer.step, args=(x, y), daemon=True)
        thread.start()
        inside.wait()
        def work():
            assert state(model) == known
            twin = network()
            twin.load_state_dict(model.state_dict())
            assert (model(x) == twin(x)).all()
            other = fc.Trainer(twin, fc.SGD(0.1, momentum=0.9))
            for _ in range(3):
                assert trainer.step(x, y) == other.step(x, y)
            assert state(model) == state(twin)
        in_child(work)
        go_on.set()
        thread.join()
        assert trainer.steps == 5
    """)


def test_a_child_forked_while_another_thread_writes_back():
    """The child finishes what was begun: never half of it."""
    script("""
        from fastcnn.layers.base import Layer
        model, twin = network(), network()
        for each in (model, twin):
            trainer = fc.Trainer(each, fc.SGD(0.1))
            trainer.step(x, y)
        known, take, inside, go_on = state(twin), Layer._take_value, threading.Event(), threading.Event()
        def halting(layer, name, array, by):
            take(layer, name, array, by)
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                go_on.wait()
        Layer._take_value = halting
        thread = threading.Thread(target=lambda: model(x), daemon=True)
        thread.start()
        inside.wait()
        def work():
            assert state(model) == known
        in_child(work)
        go_on.set()
        thread.join()
        assert state(model) == known
    """)


def test_a_fork_within_a_step_of_the_same_thread():
    """As a signal handler may do: both processes end the step, and go on alike."""
    script("""
        from fastcnn.compiler.plan import Plan
        expected = network()
        trainer = fc.Trainer(expected, fc.SGD(0.1))
        for _ in range(4):
            trainer.step(x, y)
        model = network()
        trainer, run, children = fc.Trainer(model, fc.SGD(0.1)), Plan.run, []
        def forking(plan, inputs, outputs=None, done=None):
            if done is not None and trainer.steps == 2:
                children.append(os.fork())
            return run(plan, inputs, outputs, done)
        Plan.run = forking
        signal.alarm(60)
        for _ in range(4):
            trainer.step(x, y)
            model(x)
        assert state(model) == state(expected)
        if children == [0]:
            os._exit(0)
        assert os.waitpid(children[0], 0)[1] == 0
    """)


def test_a_child_goes_on_with_the_batches_of_its_parent():
    script("""
        from fastcnn.training.loader import read_ahead
        parent, slow = os.getpid(), threading.Event()
        def make(number, stopped):
            if number == 2 and os.getpid() == parent:
                slow.wait()  # a thread is at this one when the process forks
            return number
        batches = read_ahead(make, range(6), 2)
        assert next(batches) == 0
        def work():
            assert list(batches) == [1, 2, 3, 4, 5]
        in_child(work)
        slow.set()
        assert list(batches) == [1, 2, 3, 4, 5]
    """)


def test_a_child_forked_while_another_thread_reads_a_photo_warns_as_before():
    script("""
        import warnings
        from fastcnn.io import _photo
        before, inside = list(warnings.filters), threading.Event()
        def read():
            with _photo._quiet_pillow():
                inside.set()
                threading.Event().wait()
        threading.Thread(target=read, daemon=True).start()
        inside.wait()
        assert warnings.filters != before
        def work():
            assert warnings.filters == before
            with _photo._quiet_pillow():
                pass
            assert warnings.filters == before
        in_child(work)
        os._exit(0)
    """)


def test_a_child_forked_while_another_thread_imports():
    """As modules are imported when they are needed first: the fork waits until that is done."""
    run(
        "-c",
        """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")
import fastcnn as fc
assert "numpy.random" not in sys.modules
thread = threading.Thread(target=fc.Linear, args=(3, 3), daemon=True)
sys.setswitchinterval(1e-6)
thread.start()
while "numpy.random" not in sys.modules:
    pass
child = os.fork()
if child == 0:
    signal.alarm(60)
    fc.Linear(3, 3)
    os._exit(0)
thread.join()
sys.exit(os.waitpid(child, 0)[1])
""",
    )


POOL = "with multiprocessing.get_context('{}').Pool(2) as pool: found = pool.map(forks.answer, [0] * 6)"
WAYS = {
    **{way: POOL.format(way) for way in ("fork", "forkserver", "spawn")},
    "loky": "found = joblib.Parallel(2, backend='loky')(joblib.delayed(forks.answer)(0) for _ in range(6))",
}


def test_pools_of_processes_answer_as_their_parent(budget):
    for way in budget(["fork"], WAYS):
        script(f"""
            import forks, joblib, multiprocessing
            expected = forks.answer(0)
            {WAYS[way]}
            assert found == [expected] * 6
        """)
