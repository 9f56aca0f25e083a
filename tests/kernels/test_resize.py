"""Resizing of images by kernels, against the definition and the rules of PyTorch; and its gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_builders as build
import pytest
from conftest import THREADS
from kernels.graphs_of_nodes import gradients, run, single
from onnx import helper

import fastcnn
from fastcnn.ops import get
from fastcnn.ops.budget import Budget
from fastcnn.ops.general.resize import resize_plan
from fastcnn.ops.interpolation import coordinates
from fastcnn.ops.resize import taps_of

SIZES = [((5, 7), (10, 14)), ((4, 4), (3, 9)), ((1, 6), (5, 1)), ((9, 8), (4, 4)), ((6, 5), (6, 5))]
MODES = {
    "nearest": {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
    "linear": {"coordinate_transformation_mode": "half_pixel"},
    "cubic": {"coordinate_transformation_mode": "align_corners"},
}


def attributes(mode, size, result, **further):
    scales = {f"scale_{axis}": new / old for axis, old, new in zip("hw", size, result, strict=True)}
    return {**get("Resize").defaults, "mode": mode, "sizes": result, **scales, **MODES[mode], **further}


def matrix(attrs, size, result, i):
    """The weights of all inputs for each output along an axis, by ONNX's operator in NumPy."""
    eye = np.eye(size[i], dtype=np.float32)[:, :, None]
    further = {key: attrs[key] for key in ("mode", *MODES[attrs["mode"]])}
    sizes = np.array([size[i], result[i], 1])
    budget, operator = Budget(), get("ai.onnx::Resize")
    return operator.evaluate(further, [eye, None, None, sizes], budget)[:, :, 0].T


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("mode", MODES)
def test_images_are_resized(mode, threads, isa, poisoned):
    rng = np.random.default_rng(1)
    for size, result in SIZES:
        for channels in (1, 5, 37):
            x = rng.integers(-9, 10, (2, channels, *size)).astype(np.float32)
            attrs = attributes(mode, size, result)
            with fastcnn.num_threads(threads):
                (y,) = run(single("Resize", x, **attrs), {"v0": x})
            rows, columns = (matrix(attrs, size, result, i) for i in (0, 1))
            expected = np.einsum("nchw,ph,qw->ncpq", x, rows, columns)
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
            if mode == "nearest":
                rows, columns = (np.arange(n) * m // n for m, n in zip(size, result, strict=True))
                assert np.array_equal(y, x[:, :, rows[:, None], columns])


@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode, isa, poisoned):
    rng = np.random.default_rng(2)
    for size, result in SIZES:
        x, g = (rng.integers(-9, 10, (2, 19, *s)).astype(np.float32) for s in (size, result))
        attrs = attributes(mode, size, result)
        (found,) = gradients("Resize", [x], g, **attrs)
        rows, columns = (taps_of(attrs, i, size[i]).applied(np.eye(size[i]), 0) for i in (0, 1))
        expected = np.einsum("ncpq,ph,qw->nchw", g, rows, columns)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("length", "size"), [(26, 64), (7, 49), (3, 512), (100, 33), (13, 26)])
def test_a_scale_that_was_rounded_to_a_float_keeps_ties(length, size):
    """PyTorch writes size / length as a float, and computes with floor(i * length / size)."""
    rounded = np.float32(size / length)
    ((_, found, scale),) = resize_plan((length,), {}, np.array([rounded]), None)
    places = np.floor(coordinates(length, found, scale, "asymmetric", 0.0, 1.0))
    assert found == size and np.array_equal(places, np.arange(size) * length // size)


def test_a_scale_that_is_no_quotient_of_sizes_stays():
    assert resize_plan((10,), {}, np.float32([2.55]), None)[0][1:] == (25, float(np.float32(2.55)))
    assert resize_plan((1, 1, 4, 4), {}, np.float32([1, 1, 1e-8, 1]), None)[2][1] == 0


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_files_as_pytorch_writes_them(mode, tmp_path, isa):
    """Upsampling between convolutions has a kernel, also after a way through another file."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((9, 3, 1, 1)).astype(np.float32)
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Resize", ["a", "", "s"], ["y"], "up", mode=mode, **how),
    ]
    constants = [build.tensor("w", w), build.tensor("s", np.float32([1, 1, 64 / 26, 2]))]
    values = build.value("x", ["N", 3, 26, 5]), build.value("y", None)
    onnx.save(build.model(nodes, [values[0]], [values[1]], constants), tmp_path / "up.onnx")
    model = fastcnn.load(tmp_path / "up.onnx", strict=True)
    x = rng.standard_normal((2, 3, 26, 5)).astype(np.float32)
    a = fastcnn.reference.conv2d(x, w)
    if mode == "nearest":
        expected = a[:, :, (np.arange(64) * 26 // 64)[:, None], np.arange(10) // 2]
    else:
        expected = get("Resize").reference(attributes("linear", (26, 5), (64, 10)), [a])
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)
    model.export_onnx(tmp_path / "again.onnx")
    np.testing.assert_array_equal(fastcnn.load(tmp_path / "again.onnx")(x), model(x))


def test_what_does_not_fit_is_named():
    x = np.zeros((1, 2, 3, 3), np.float32)
    with pytest.raises(ValueError, match="mode='area', expected nearest, linear or cubic"):
        run(single("Resize", x, mode="area"), {"v0": x})
    with pytest.raises(ValueError, match=r"sizes=\(0, 3\), expected 2 integers >= 1"):
        run(single("Resize", x, sizes=(0, 3)), {"v0": x})
