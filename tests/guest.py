"""Calls every operation and compares what belongs to the process, not to fastcnn, before and after each; a program, see
test_guest.py.

``python guest.py LIBRARY [ACTION ...]``, the library made of `SOURCE`. The process is set up as none of its defaults
are, so that setting something back to a default is seen, too.
"""

from __future__ import annotations

import ctypes
import locale
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable

import numpy as np

SOURCE = """
#include <fenv.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
unsigned get_modes(void) { return _mm_getcsr() & ~0x3fu; } /* without the flags that operations leave */
void flush_to_zero(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
#else
unsigned get_modes(void) { return 0; }
void flush_to_zero(void) {}
#endif
int get_rounding(void) { return fegetround(); }
void round_up(void) { fesetround(FE_UPWARD); }
"""


def set_up(library: ctypes.CDLL) -> None:
    """Other than by default: one processor of several, a blocked signal, handlers, flush-to-zero, rounding upwards."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGWINCH})
    for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    os.environ["GUEST"] = "is here"
    os.umask(0o027)
    sys.setswitchinterval(0.003)
    np.seterr(under="ignore", over="ignore")
    np.random.seed(3)
    random.seed(3)
    library.flush_to_zero()
    library.round_up()


def state(library: ctypes.CDLL) -> dict[str, object]:
    """All that others in the process rely on."""
    kind, keys, *rest = np.random.get_state()
    return {
        "control register": library.get_modes(),
        "rounding mode": library.get_rounding(),
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "signal handlers": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "timers": [
            signal.getitimer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
        ],
        "affinity": os.sched_getaffinity(0),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")],
        "environment": dict(os.environ),
        "environment of C": environment_of_c(),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "NumPy's errors": np.geterr(),
        "NumPy's random numbers": (kind, keys.tobytes(), *rest),
        "Python's random numbers": random.getstate(),
        "warnings": list(warnings.filters),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.gettrace(), sys.getprofile()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
    }


def changes(before: dict[str, object], after: dict[str, object]) -> dict[str, tuple[object, object]]:
    """What is not as it was: both values."""
    return {name: (value, after[name]) for name, value in before.items() if after[name] != value}


def environment_of_c() -> list[bytes | None]:
    """As `getenv` of a library sees it."""
    names = (*os.environb, b"OMP_NUM_THREADS", b"KMP_DUPLICATE_LIB_OK", b"MKL_NUM_THREADS", b"OPENBLAS_NUM_THREADS")
    getenv = ctypes.CDLL(None).getenv
    getenv.restype, getenv.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    return [getenv(name) for name in names]


def general_actions() -> dict[str, Callable[[], object]]:
    """The operators of ONNX in plain NumPy, on their random cases."""
    from general_cases import random_case

    from fastcnn.ops.budget import Budget
    from fastcnn.ops.general import TABLE

    def evaluate(name: str, op):
        def run():
            with np.errstate(all="ignore"):
                inputs, attrs = random_case(name, np.random.default_rng(0))
                op.evaluate(attrs, inputs, Budget(1 << 40))

        return run

    return {key: evaluate(key.rpartition(":")[2], op) for key, op in TABLE.items()}


IMAGE, ROWS = (2, 3, 6, 6), (2, 5)
# Operations that no public function calls: attributes, and the shapes of operands.
INTERNAL = {
    "Identity": ({}, [IMAGE]), "ZerosLike": ({}, [IMAGE]), "Transpose": ({"perm": (0, 2, 3, 1)}, [IMAGE]),
    "Slice": ({"axis": 1, "end": 2}, [IMAGE]), "Crop": ({"starts": (0, 0, 1, 1), "shape": (2, 3, 4, 4)}, [IMAGE]),
    "SumTo": ({"shape": (1, 3, 1, 1)}, [IMAGE]), "Spread": ({"strides": (2, 2), "size": (12, 12)}, [IMAGE]),
    "DepthwiseGradInput": (
        {"strides": (2, 2), "group": 16, "size": (12, 12), "kernel_shape": (2, 2)}, [(2, 16, 6, 6), (16, 1, 2, 2)]
    ),
    **{name: ({}, [IMAGE]) for name in ("Abs", "Exp", "Neg", "Sqrt", "Reciprocal")},
    **{f"{name}Grad": ({}, [IMAGE, IMAGE]) for name in ("Abs", "Exp", "Neg", "Sqrt", "Reciprocal")},
    **{name: ({}, [IMAGE, IMAGE]) for name in ("Sub", "Div", "Min", "Max", "Below", "Same")},
    **{name: ({"shape": IMAGE}, [(1, 3, 1, 1)]) for name in ("Expand", "BroadcastTo")},
    **{f"Reduce{name}": ({"axes": (1,)}, [IMAGE]) for name in ("Sum", "Mean", "Max", "L2")},
    "MovePixels": ({"shape": (2, 3, 3), "images": (2, 36), "pixels": (3, 12, 3, 2)}, [IMAGE]),
    "Attention": ({}, [(1, 2, 4, 8)] * 3), "LayerNormalization": ({}, [IMAGE, (6,), (6,)]),
    "LayerNormStats": ({}, [IMAGE]), "LayerNormGrad": ({}, [IMAGE, IMAGE, (36, 2), (6,)]),
    "DepthToSpace": ({"blocksize": 2}, [(2, 4, 6, 6)]), "SpaceToDepth": ({"blocksize": 2}, [IMAGE]),
    "RepeatForBatch": ({}, [(1, 3, 6, 6), IMAGE]), "Exchanged": ({"function": lambda arrays: arrays[0]}, [IMAGE]),
    **{loss + gradient: ({}, [ROWS, ROWS])
       for loss in ("MeanSquaredError", "BinaryCrossEntropy", "LinearLoss") for gradient in ("", "Grad")},
}  # fmt: skip


def internal_actions() -> dict[str, Callable[[], object]]:
    """Plans of what compilers and trainers put into graphs; a network in bands, one that reads photos."""
    from convolutions import node

    import fastcnn as fc
    import fastcnn.functional as F
    from fastcnn.compiler import slices
    from fastcnn.compiler.compile import compile_graph
    from fastcnn.graph.ir import Graph
    from fastcnn.io.preprocess import Preprocess

    class Norms(fc.Model):
        """Layers over channels that come last and first."""

        def __init__(self) -> None:
            self.norm, self.rows, self.size = fc.LayerNorm(3), fc.LayerNorm(6), fc.RMSNorm(6)
            self.group, self.mixing = fc.GroupNorm(3, 3), fc.Linear(3, 3, rng=0)
            self.head = fc.Linear(108, 2, rng=1)

        def forward(self, x):
            x = self.mixing(self.norm(F.permute(x, (0, 2, 3, 1))))
            x = self.group(F.permute(x, (0, 3, 1, 2)))
            return self.head(F.flatten(self.size(self.rows(x))))

    class Attending(fc.Model):
        """Attention to the rows of an image, between normalisations of rows."""

        def __init__(self) -> None:
            self.norm, self.attention = fc.LayerNorm(6), fc.MultiheadAttention(6, 2, rng=0)
            self.norm2 = fc.LayerNorm(6)
            self.head = fc.Linear(108, 2, rng=1)

        def forward(self, x):
            tokens = self.norm(F.reshape(x, (-1, 18, 6)))
            return self.head(F.flatten(self.norm2(self.attention(tokens, tokens, tokens))))

    def plan(name: str, attrs, shapes):
        inputs = {f"operand {i}": shape for i, shape in enumerate(shapes)}
        graph = Graph([node(name, tuple(inputs), "y", **attrs)], inputs, ["y"], {})
        return lambda: compile_graph(graph, inputs).run([np.ones(shape, np.float32) for shape in shapes])

    def bands():
        slices.LARGE_BYTES = 0
        return fc.zoo.mobilenet_v2(rng=0)(np.ones((1, 3, 64, 64), np.float32))

    def photos():
        model = fc.Sequential(fc.Conv2d(3, 8, 3, rng=0), fc.GlobalAvgPool2d(), fc.Flatten())
        model.preprocess = Preprocess(16)
        return model.classify(np.ones((20, 20, 3), np.uint8))

    def clipped():
        model = fc.Sequential(fc.Flatten(), fc.Linear(108, 2, rng=0))
        return fc.Trainer(model, fc.SGD(0.1), clip_norm=1e-3).step(np.ones(IMAGE, np.float32), np.array([0, 1]))

    def norms():
        """A training step of normalisations of pixels, rows, groups and by size, whatever optimizer makes of it."""
        fc.Trainer(Attending(), fc.SGD(0.1)).step(np.ones(IMAGE, np.float32), np.array([0, 1]))
        model = Norms()
        for optimizer in (fc.SGD(0.1), fc.training.LAMB(0.1), fc.training.Lion(0.1)):
            fc.Trainer(model, optimizer).step(np.ones(IMAGE, np.float32), np.array([0, 1]))

    def resized():
        from fastcnn import ops
        from fastcnn.graph.autodiff import differentiate

        nodes = [node("Resize", ("x",), "r", sizes=(12, 12)), node("Flatten", ("r",), "f"),
                 node("MeanSquaredError", ("f", "t"), "l")]  # fmt: skip
        shapes = {"x": IMAGE, "t": (2, 432)}
        graph, grads, _ = differentiate(Graph(nodes, shapes, ["l"], {}), shapes, "l", ["x"])
        assert ops.is_known("Resize")
        graph.outputs.append(grads["x"])
        return compile_graph(graph, shapes).run([np.ones(shape, np.float32) for shape in shapes.values()])

    plans = {name: plan(name, *case) for name, case in INTERNAL.items()}
    return {**plans, "bands": bands, "photos": photos, "clipped": clipped, "norms": norms, "resized": resized}


def seen_operations() -> set[str]:
    """Names of the operations that from now on are lowered to steps, or to other operations."""
    from fastcnn.ops.node import _KINDS, Op

    seen: set[str] = set()

    def noting(name: str, call):
        def noted(*arguments, **settings):
            seen.add(name)
            return call(*arguments, **settings)

        return noted

    for name, op in _KINDS.items():
        way = "lower" if type(op).expand is Op.expand else "expand"
        setattr(op, way, noting(name, getattr(op, way)))
    return seen


def main(path: str, only: list[str]) -> None:
    library = ctypes.CDLL(path)
    set_up(library)
    before = state(library)
    import out_of_memory

    import fastcnn

    def compare(label: str) -> None:
        changed = changes(before, state(library))
        assert not changed, f"{label} has changed the process: {changed}"

    compare("the import")
    seen = seen_operations()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        before["folder"] = os.getcwd()
        out_of_memory.MODEL = f"{folder}/model"
        out_of_memory.network().save(out_of_memory.MODEL)
        actions = {**out_of_memory.ACTIONS, **internal_actions(), **general_actions()}
        for threads in (1, 2):
            fastcnn.set_num_threads(threads)
            for label in only or actions:
                actions[label]()
                compare(label)
        os.chdir(os.sep)
    print(*sorted(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
