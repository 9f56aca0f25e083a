"""Ctrl-C while a network runs: the call raises within a fraction of a second, and the model goes on working."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

import fastcnn as fc

# An answer takes milliseconds on a quiet machine; a run that is deaf to signals, many seconds.
WORK = """
import os, signal, sys, threading, time
import numpy as np
import fastcnn as fc

def interrupted(call, delay):
    '''Seconds from the signal to the exception.'''
    sent = []
    def press():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Timer(delay, press)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    raise SystemExit('not interrupted')
"""

PREDICTIONS = {
    "many_images": "model = fc.zoo.vgg16(); call = lambda: model(np.zeros((64, 3, 224, 224), 'f'))",
    "huge_pooling": "m = fc.MaxPool2d(2001, 1, 1000); x = np.zeros((1, 1, 3000, 3000), 'f'); call = lambda: m(x)",
    "huge_average": "call = lambda: fc.functional.avg_pool2d(np.zeros((1, 1, 3000, 3000), 'f'), 2001, 1, 1000)",
    **{
        name: f"from fastcnn import functional as F; x = np.zeros((1, 1, 2000, 2000), 'f'); call = lambda: F.{call}"
        for name, call in {
            "gradient_of_huge_pooling": "max_pool2d_grad(x, x, 1501, 1, 750)",
            "gradient_of_huge_average": "avg_pool2d_grad(x, x.shape[2:], 1501, 1, 750)",
            "huge_filter": "conv2d(x, x[..., :1501, :1501], padding=750)",
            "gradient_by_huge_filter": "conv2d_grad_weight(x, x, (1501, 1501), padding=750)",
        }.items()
    },
}


def run(program: str) -> str:
    """What a program prints that Ctrl-C can interrupt, also where the tests run in the background."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK + program],
        check=True,
        timeout=300,
        text=True,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ).stdout


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PREDICTIONS)
def test_long_predictions_stop(name, threads):
    answer = run(f"{PREDICTIONS[name]}\nfc.set_num_threads({threads})\nprint(interrupted(call, 1.5))")
    assert float(answer) < 10  # it would take minutes


FIT = """
fc.set_num_threads(2)
model = fc.zoo.resnet18(num_classes=5)
x, y = np.random.default_rng(0).random((64, 3, 224, 224), np.float32), np.arange(64) % 5
timer = threading.Timer(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
before = {name: array.copy() for name, array in model.state_dict().items()}
timer.start()
history = model.fit(x, y, epochs=50, batch_size=64)
assert history.interrupted
changed = {name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])}
assert len(changed) in (0, len(before)), sorted(changed)  # of finished steps
assert np.isfinite(model(x[:1])).all()
history = model.fit(x[:8], y[:8], epochs=1, batch_size=8)
assert history.epochs == 1 and not history.interrupted
"""


def test_fit_stops_between_whole_steps():
    run(FIT)


def test_handlers_run_within_a_call_and_may_raise():
    """Every signal's handler does, in the thread that calls, between pieces of work."""
    code = """
class Stop(Exception):
    pass
def stop(number, frame):
    raise Stop('now')
signal.signal(signal.SIGUSR1, stop)
model = fc.zoo.vgg16()
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
x = np.zeros((64, 3, 224, 224), 'f')
try:
    model(x)
except Stop:
    print(np.isfinite(model(x[:1])).all())
"""
    assert run(code).strip() == "True"


def test_ctrl_c_is_heard_after_a_handler_that_computes():
    """A handler runs within a unit of one run, and starts another one, which asks in the same thread."""
    code = f"""
{PREDICTIONS["gradient_of_huge_pooling"]}
from fastcnn.kernels import _step
def compute(number, frame):
    _step.LONGEST_PIECE = 1  # it asks, too
    small = np.ones((1, 1, 9, 9), 'f')
    computed.append(F.max_pool2d_grad(small, small, 3, 1, 1).sum())
computed = []
signal.signal(signal.SIGUSR1, compute)
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
seconds = interrupted(call, 2.0)
print(*computed, seconds)
"""
    total, seconds = run(code).split()
    assert float(total) == 81 and float(seconds) < 10


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_step_that_is_given_up_changes_nothing(threads):
    """Stopped at its first look, a step leaves parameters, statistics and momenta as they were: going on gives the same
    bits as never having been stopped."""
    from fastcnn.kernels import _program

    x, y = np.random.default_rng(0).random((64, 3, 64, 64), np.float32), np.arange(64) % 5
    results = []
    with fc.num_threads(threads):
        for stops, is_read in ((False, False), (True, False), (True, True)):
            fc.layers.manual_seed(0)
            model = fc.zoo.resnet18(num_classes=5)
            trainer = fc.Trainer(model, fc.SGD(0.01, momentum=0.9))
            trainer.step(x, y)
            before = model.state_dict() if is_read else {}
            if stops:
                previous = _program.stop_where(lambda: True)
                try:
                    with pytest.raises(KeyboardInterrupt):
                        trainer.step(x, y)
                finally:
                    _program.stop_where(previous)
                assert trainer.steps == 1
                now = model.state_dict()
                assert all(now[name] is array for name, array in before.items())  # nothing to write back
            trainer.step(x, y)
            results.append({**model.state_dict(), **trainer.state_dict()})
    for name, expected in results[0].items():
        for result in results[1:]:
            np.testing.assert_array_equal(result[name], expected)


def test_a_second_ctrl_c_at_the_end_leaves_nothing_behind(monkeypatch):
    """It raises as soon as Python's own handler is back: by then no run is asked to stop any more."""
    from fastcnn.kernels import _program
    from fastcnn.training.interrupt import Interrupt

    set_handler = signal.signal

    def set_and_press(number, handler):
        set_handler(number, handler)
        if handler is signal.default_int_handler:
            raise KeyboardInterrupt

    before = set_handler(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Interrupt():
            monkeypatch.setattr(signal, "signal", set_and_press)
        assert _program.stop_where(None) is None
    finally:
        set_handler(signal.SIGINT, before)


def test_ctrl_c_that_a_callback_has_dropped_is_heard_later():
    """Python prints what is raised in callbacks of the garbage collector, and goes on."""
    answer = run("""
from fastcnn.training.interrupt import Interrupt

def dropped(ignored):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)

class Thing: pass

import weakref
sys.unraisablehook = lambda told: print(told.exc_type.__name__)
try:
    with Interrupt() as interrupt:
        with interrupt.allowed():
            thing = Thing()
            reference = weakref.ref(thing, dropped)
            del thing
            print("goes on")
        interrupt.check()
        print("was not heard")
except KeyboardInterrupt:
    print("heard")
with Interrupt() as interrupt:
    try:
        with interrupt.allowed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
    except KeyboardInterrupt:
        interrupt.check()
        print("once")
""")
    assert answer.split("\n") == ["KeyboardInterrupt", "goes on", "heard", "once", ""]
