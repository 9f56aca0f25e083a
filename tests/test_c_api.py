"""The C API: every function against fastcnn.functional, with strides, on threads of the caller's own, without memory.

Programs of C, Cython and C++ are compiled as another package's would be. Nothing here knows the sources of fastcnn.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_ssize_t, c_void_p
from pathlib import Path

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel

HERE = Path(__file__).parent
DONE, BAD_ARGUMENT, NO_MEMORY, BUSY, FAILED = range(5)


class Images(ctypes.Structure):
    _fields_ = [(name, c_ssize_t) for name in ("n", "c", "h", "w", "image", "channel", "row")]


class Conv(ctypes.Structure):
    _fields_ = [
        ("out_channels", c_ssize_t),
        ("kernel", c_ssize_t * 2),
        ("stride", c_ssize_t * 2),
        ("padding", c_ssize_t * 4),
        ("dilation", c_ssize_t * 2),
        ("groups", c_ssize_t),
    ]


class Pool(ctypes.Structure):
    _fields_ = [
        ("kernel", c_ssize_t * 2),
        ("stride", c_ssize_t * 2),
        ("padding", c_ssize_t * 4),
        ("count_include_pad", c_int),
    ]


class Activate(ctypes.Structure):
    _fields_ = [("kind", c_int), ("negative_slope", c_float)]


PLAN, IMAGES, NUMBERS, ACT = POINTER(c_void_p), POINTER(Images), POINTER(c_float), POINTER(Activate)
FUNCTIONS = {
    "version": (c_char_p,),
    "last_error": (c_char_p,),
    "prepare_conv2d": (c_int, PLAN, IMAGES, IMAGES, POINTER(Conv), NUMBERS, NUMBERS, ACT, c_int),
    "prepare_conv2d_grad_input": (c_int, PLAN, IMAGES, IMAGES, POINTER(Conv), NUMBERS, c_int),
    "prepare_conv2d_grad_weight": (c_int, PLAN, IMAGES, IMAGES, POINTER(Conv), c_int),
    "prepare_matmul": (c_int, PLAN, c_ssize_t, c_ssize_t, c_ssize_t, NUMBERS, NUMBERS, ACT, c_int),
    "prepare_max_pool2d": (c_int, PLAN, IMAGES, IMAGES, POINTER(Pool), c_int),
    "prepare_avg_pool2d": (c_int, PLAN, IMAGES, IMAGES, POINTER(Pool), c_int),
    "prepare_activation": (c_int, PLAN, IMAGES, IMAGES, ACT, c_int),
    "plan_from_model": (c_int, PLAN, ctypes.py_object, c_ssize_t, c_int),
    "plan_clone": (c_int, PLAN, c_void_p),
    "plan_free": (None, c_void_p),
    "plan_input_size": (c_ssize_t, c_void_p, c_int),
    "plan_output_size": (c_ssize_t, c_void_p),
    "plan_workspace": (c_size_t, c_void_p),
    "run": (c_int, c_void_p, POINTER(NUMBERS), NUMBERS, c_int),
}


class Table(ctypes.Structure):
    _fields_ = [
        ("abi_version", c_int),
        ("size", c_size_t),
        *[(name, ctypes.CFUNCTYPE(*types)) for name, types in FUNCTIONS.items()],
    ]


def table() -> Table:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]
    return Table.from_address(pointer(fc._capi, b"fastcnn._capi"))


api = table()


def numbers(array: np.ndarray | None):
    return None if array is None else array.ctypes.data_as(NUMBERS)


def prepared(function: str, *arguments) -> c_void_p:
    plan = c_void_p()
    status = getattr(api, f"prepare_{function}")(byref(plan), *arguments)
    assert status == DONE, api.last_error()
    return plan


def run(plan: c_void_p, inputs: list[np.ndarray], out: np.ndarray, threads: int = 1) -> int:
    pointers = (NUMBERS * len(inputs))(*[numbers(array) for array in inputs])
    return api.run(plan, pointers, numbers(out), threads)


class Strided:
    """An array of images with gaps of NaN or sevens between rows, channels and images."""

    def __init__(self, values: np.ndarray, gap: float, gaps: tuple[int, int, int] = (7, 5, 3)) -> None:
        n, c, h, w = values.shape
        self.row = w + gaps[2]
        self.channel = h * self.row + gaps[1]
        self.image = c * self.channel + gaps[0]
        self.memory = np.full(n * self.image, gap, np.float32)
        strides = tuple(4 * step for step in (self.image, self.channel, self.row, 1))
        self.values = np.lib.stride_tricks.as_strided(self.memory, values.shape, strides)
        self.values[...] = values
        self.described = Images(n, c, h, w, self.image, self.channel, self.row)

    def gaps(self) -> np.ndarray:
        mask = np.ones(self.memory.size, bool)
        view = np.lib.stride_tricks.as_strided(mask, self.values.shape, [step // 4 for step in self.values.strides])
        view[...] = False
        return self.memory[mask]


rng = np.random.default_rng(0)
X = rng.standard_normal((2, 6, 13, 11), np.float32)
W = rng.standard_normal((20, 3, 3, 3), np.float32)
B = rng.standard_normal(20, np.float32)
CONV = Conv(20, (3, 3), (2, 1), (1, 0, 1, 2), (1, 2), 2)
SETTINGS = {"stride": (2, 1), "padding": (1, 0, 1, 2), "dilation": (1, 2), "groups": 2}
POOL = Pool((3, 2), (2, 1), (1, 0, 1, 1), 0)
Y = F.conv2d(X, W, B, **SETTINGS)
RELU = Activate(1, 0)
CASES = {
    "conv2d": ((CONV, numbers(W), numbers(B), byref(RELU)), X, F.relu(Y)),
    "conv2d_grad_input": ((CONV, numbers(W)), Y, F.conv2d_grad_input(Y, W, X.shape[2:], **SETTINGS)),
    "max_pool2d": ((POOL,), X, F.max_pool2d(X, (3, 2), (2, 1), (1, 0, 1, 1))),
    "avg_pool2d": ((POOL,), X, F.avg_pool2d(X, (3, 2), (2, 1), (1, 0, 1, 1), count_include_pad=False)),
    **{
        f"activation_{kind}": ((byref(Activate(kind, 0.25)),), X, function(X))
        for kind, function in enumerate(
            (
                np.copy,
                F.relu,
                F.relu6,
                lambda x: F.leaky_relu(x, 0.25),
                F.tanh,
                F.sigmoid,
                F.hardswish,
                F.silu,
                F.gelu,
                lambda x: F.gelu(x, "tanh"),
            )
        )
    },
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_strides(isa, name, threads):
    """Inputs and outputs with gaps: values are those of the functions, and no gap is read or written."""
    more, x, expected = CASES[name]
    given, found = Strided(x, np.nan), Strided(np.zeros_like(expected), 7)
    places = (given, found) if name != "conv2d_grad_input" else (found, given)
    plan = prepared(re.sub(r"_\d$", "", name), *(byref(place.described) for place in places), *more, threads)
    assert run(plan, [given.memory], found.memory, threads) == DONE
    api.plan_free(plan)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-5 * scale)
    assert (found.gaps() == 7).all()


def test_weights_of_every_run(isa):
    """Weights that are not prepared are a second input; the gradient by them has two inputs, too."""
    image = Images(*X.shape)
    out = np.empty_like(Y)
    plan = prepared("conv2d", byref(image), None, byref(CONV), None, numbers(B), None, 2)
    for weights in (W, 2 * W):
        assert run(plan, [X, weights], out) == DONE
        np.testing.assert_allclose(out, F.conv2d(X, weights, B, **SETTINGS), rtol=0, atol=1e-4)
    api.plan_free(plan)
    out = np.empty_like(X)
    plan = prepared("conv2d_grad_input", byref(image), None, byref(CONV), None, 1)
    assert run(plan, [Y, W], out) == DONE
    np.testing.assert_allclose(out, F.conv2d_grad_input(Y, W, X.shape[2:], **SETTINGS), rtol=0, atol=1e-3)
    api.plan_free(plan)
    out = np.empty_like(W)
    plan = prepared("conv2d_grad_weight", byref(image), None, byref(CONV), 2)
    assert (api.plan_input_size(plan, 0), api.plan_input_size(plan, 1)) == (X.size, Y.size)
    assert run(plan, [X, Y], out, 2) == DONE
    np.testing.assert_allclose(out, F.conv2d_grad_weight(X, Y, (3, 3), **SETTINGS), rtol=1e-4, atol=1e-3)
    api.plan_free(plan)


def test_matmul(isa):
    a, w, b = (rng.standard_normal(shape, np.float32) for shape in ((5, 33), (17, 33), (17,)))
    out = np.empty((5, 17), np.float32)
    expected = np.maximum(a @ w.T + b, 0)
    plan = prepared("matmul", 5, 33, 17, numbers(w), numbers(b), byref(RELU), 1)
    assert run(plan, [a], out) == DONE
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
    api.plan_free(plan)
    plan = prepared("matmul", 5, 33, 17, None, None, None, 1)
    assert run(plan, [a, w], out) == DONE
    np.testing.assert_allclose(out, a @ w.T, rtol=0, atol=1e-5)
    api.plan_free(plan)


@pytest.mark.parametrize("batch", [1, 70])
def test_model(batch):
    """Also a batch that is cut into parts, on several threads; the plan keeps the weights that it was made with."""
    fc.layers.manual_seed(0)
    model = fc.zoo.lenet()
    x = rng.random((batch, *model.input_shape), np.float32)
    expected = model(x)
    plan = c_void_p()
    assert api.plan_from_model(byref(plan), model, batch, 2) == DONE
    model[-1].bias = model[-1].bias + 1
    out = np.empty_like(expected)
    assert api.plan_output_size(plan) == out.size and api.plan_workspace(plan) > 0
    for threads in (1, 2, 5):
        out[...] = 0
        assert run(plan, [x], out, threads) == DONE
        np.testing.assert_array_equal(out, expected)
    api.plan_free(plan)


def test_threads_of_the_caller():
    """A clone for each thread: all at the same time, without the GIL, with the same bits. One plan is busy or right."""
    model = fc.zoo.lenet()
    x = rng.random((64, *model.input_shape), np.float32)
    expected = model(x)
    plans = [c_void_p() for _ in range(4)]
    assert api.plan_from_model(byref(plans[0]), model, 1, 2) == DONE
    for plan in plans[1:]:
        assert api.plan_clone(byref(plan), plans[0]) == DONE

    def work(plan, results):
        out = np.empty((1, expected.shape[1]), np.float32)
        for i in range(len(x)):
            results.append((run(plan, [x[i]], out, 1 + i % 2), out.copy()))
        return results

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda plan: work(plan, []), plans):
            assert [status for status, _ in results] == [DONE] * len(x)
            np.testing.assert_array_equal(np.concatenate([out for _, out in results]), expected)
        for results in pool.map(lambda _: work(plans[0], []), range(4)):
            for i, (status, out) in enumerate(results):
                assert status in (DONE, BUSY)
                if status == DONE:
                    np.testing.assert_array_equal(out[0], expected[i])
    for plan in plans:
        api.plan_free(plan)


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("conv2d", (None, None, CONV, numbers(W), None, None, 1), "x is NULL"),
        ("conv2d", (Images(1, 6, 9, 9), None, None, numbers(W), None, None, 1), "conv is NULL"),
        ("conv2d", (Images(1, 7, 9, 9), None, CONV, numbers(W), None, None, 1), "groups=2 does not divide the 7"),
        ("conv2d", (Images(1, 6, 0, 9), None, CONV, numbers(W), None, None, 1), "expected an integer >= 1"),
        ("conv2d", (Images(1, 6, 9, 9), None, CONV, numbers(W), None, None, 0), "threads=0"),
        ("conv2d", (Images(1, 6, 1, 1), None, Conv(20, (9, 9), (1, 1), (0,) * 4, (1, 1), 2), None, None, None, 1), "9"),
        ("activation", (Images(1, 6, 9, 9), Images(0, 0, 0, 0, 9, 9, 9), Activate(1), 1), "overlap"),
        ("activation", (Images(1, 6, 9, 9, -1, 81, 9), None, Activate(1), 1), ">= 0"),
        ("activation", (Images(1, 6, 9, 9), None, Activate(99), 1), "kind=99"),
        ("max_pool2d", (Images(1, 6, 9, 9), None, None, 1), "pool is NULL"),
        ("matmul", (0, 1, 1, None, None, None, 1), "expected an integer >= 1"),
    ],
)
def test_errors(function, arguments, words):
    plan = c_void_p()
    status = getattr(api, f"prepare_{function}")(byref(plan), *arguments)
    assert status == BAD_ARGUMENT and words in api.last_error().decode() and not plan.value


def test_errors_of_models():
    plan = c_void_p()
    for model in (3, fc.Sequential(fc.Linear(2, 2))):
        assert api.plan_from_model(byref(plan), model, 1, 1) == BAD_ARGUMENT
        assert "expected a fastcnn.Model with input_shape set" in api.last_error().decode()
    assert api.plan_from_model(byref(plan), fc.zoo.lenet(), 0, 1) == BAD_ARGUMENT
    assert api.plan_clone(byref(plan), None) == BAD_ARGUMENT


def compiled(tmp_path: Path, source: Path, *flags: str) -> Path:
    library = tmp_path / f"{source.stem}.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    include = sysconfig.get_paths()["include"]
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", f"-I{include}", *flags]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return library


ABI = "import ctypes, sys; sys.exit(ctypes.PyDLL(sys.argv[1]).run_abi())"


@pytest.mark.parametrize("header", ["version_1", "installed"])
def test_programs_of_c(tmp_path, header):
    """Compiled with today's header, or with the one that version 1 began with; runs allocate nothing."""
    include = fc.get_include() if header == "installed" else HERE / "c_api" / header
    program = compiled(tmp_path, HERE / "c_api" / "abi.c", f"-I{include}")
    counting = compiled(tmp_path, HERE / "failing_malloc.c", "-ftls-model=initial-exec")
    for preloaded in ("", str(counting)):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LD_PRELOAD": preloaded}
        result = subprocess.run(
            [sys.executable, "-c", ABI, str(program)], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, (result.returncode, result.stderr[-2000:])


def test_the_interface_only_grows():
    """The functions of version 1 come first, in their order, with the same types."""
    first, now = (
        re.search(r"typedef struct {\s*int abi_version;.*?} fc_functions;", Path(path).read_text(), re.S).group()
        for path in (HERE / "c_api/version_1/fastcnn/capi.h", Path(fc.get_include()) / "fastcnn/capi.h")
    )
    plain = [re.sub(r"/\*.*?\*/", "", text, flags=re.S).replace("} fc_functions;", "").split() for text in (first, now)]
    assert plain[1][: len(plain[0])] == plain[0] and len(plain[0]) > 50


@pytest.fixture(scope="module")
def downstream(tmp_path_factory):
    """examples/downstream, installed into a folder of its own. Its build sees this environment. In an isolated one, it
    would get the wheel of an index: `nox -s wheels` builds it in that way."""
    source, target = tmp_path_factory.mktemp("source") / "downstream", tmp_path_factory.mktemp("target")
    shutil.copytree(HERE.parent / "examples" / "downstream", source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        str(target),
    ]
    subprocess.run([*command, str(source)], check=True)
    return str(target)


def test_package_in_cython(downstream):
    code = """
import numpy as np, fastcnn.functional as F
from downstream.edges import Edges
image = np.random.default_rng(0).random((40, 50), np.float32)
out = np.empty_like(image)
Edges(40, 50, threads=2)(image, out)
sobel = np.float32([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
expected = F.relu(F.conv2d(image[None, None], sobel[None, None], padding=1))[0, 0]
np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
try:
    Edges(0, 5)
except ValueError as error:
    assert "expected an integer >= 1" in str(error)
else:
    raise SystemExit("no error")
"""
    python(downstream, code)


def test_package_in_cpp(downstream):
    code = """
import numpy as np, fastcnn as fc
from downstream import pool
model = fc.zoo.lenet()
x = np.random.default_rng(0).random((50, *model.input_shape), np.float32)
out = np.empty((50, 10), np.float32)
assert pool.scores(model, x, out, 3) == 50
assert np.array_equal(out, model(x))
try:
    pool.scores(fc.Sequential(fc.ReLU()), x, out, 3)
except RuntimeError as error:
    assert "input_shape" in str(error)
else:
    raise SystemExit("no error")
"""
    python(downstream, code)


def python(folder: str, code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]


def test_steps_in_numpy(monkeypatch):
    """They take the GIL, on any thread. What they raise is the message of a run that has failed."""
    graph = Graph([Node("ai.onnx::Sin", "sine", ("x",), "y", {})], {"x": (None, 40)}, ["y"], {})
    model, plan = GraphModel(graph), c_void_p()
    model.input_shape = (40,)
    assert api.plan_from_model(byref(plan), model, 3, 2) == DONE, api.last_error()
    x, out = rng.standard_normal((3, 40), np.float32), np.zeros((3, 40), np.float32)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, plan, [x], out, 2).result() == DONE
    np.testing.assert_array_equal(out, np.sin(x))

    def fails(x):
        raise RuntimeError("no more " + 2000 * "é")

    with monkeypatch.context() as patch:
        patch.setattr(graph.nodes[0].kind, "function", fails)
        assert run(plan, [x], out) == FAILED
        assert (
            api.last_error().decode(errors="ignore").startswith("node 'sine' (ai.onnx::Sin): RuntimeError: no more é")
        )
    assert run(plan, [x], out) == DONE
    api.plan_free(plan)
