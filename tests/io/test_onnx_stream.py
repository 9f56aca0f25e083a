"""ONNX files whose weights are written as a stream are, byte for byte, what the onnx package would write."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import checker, numpy_helper

import fastcnn as fc
from fastcnn.io._onnx_stream import stream_model
from fastcnn.onnx_model import load_onnx

X = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("make", [build.classifier, build.transformer])
def test_files_are_as_the_package_writes_them(make, tmp_path):
    model = load_onnx(make().SerializeToString())
    model.export_onnx(tmp_path / "net.onnx")
    content = (tmp_path / "net.onnx").read_bytes()
    written = onnx.ModelProto.FromString(content)
    assert written.SerializeToString(deterministic=True) == content
    checker.check_model(content, full_check=True)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    for name, array in model.graph().constants.items():
        np.testing.assert_array_equal(stored[name], array, strict=True)
    x = X[:, :, : model.input_shape[1], : model.input_shape[2]]
    found = build.in_another_engine(tmp_path / "net.onnx", x)
    np.testing.assert_allclose(found, model(x), rtol=1e-5, atol=1e-5)


def test_weights_that_are_still_in_their_file_are_exported(tmp_path):
    """Without being kept: those are the network's largest."""
    model = fc.Sequential(fc.Flatten(), fc.Linear(432, 200, rng=0))
    model.input_shape = (3, 12, 12)
    model.save(tmp_path / "net.safetensors")
    model.export_onnx(tmp_path / "first.onnx")
    loaded = fc.load(tmp_path / "net.safetensors")
    loaded.export_onnx(tmp_path / "second.onnx")
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_arrays_of_any_layout_byte_order_and_type_are_written():
    rng = np.random.default_rng(1)
    arrays = {
        "turned": rng.standard_normal((5, 7)).T,
        "part": rng.standard_normal((400, 700)).astype(np.float32)[::2, 1:],
        "big-endian": np.arange(6, dtype=">i8"),
        "number": np.array(3, np.uint8),
        "nothing": np.zeros((0, 4), np.float16),
        "truth": np.array([True, False]),
        "backwards": np.arange(5, dtype=np.int32)[::-1],
    }
    content = b"".join(map(bytes, stream_model(build.classifier(), arrays)))
    written = onnx.ModelProto.FromString(content)
    assert written.SerializeToString(deterministic=True) == content
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    assert len(found) == len(arrays) + len(build.classifier().graph.initializer)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array.astype(array.dtype.newbyteorder("=")), strict=True)


def test_what_protobuf_cannot_read_is_refused():
    """Before anything is written; the limit counts what stands around the weights, too."""
    fits, too_large = (np.broadcast_to(np.uint8(0), (2**31 - 100 + extra,)) for extra in (0, 99))
    stream_model(onnx.ModelProto(), {"w": fits})
    with pytest.raises(ValueError, match=r"export_onnx: the file would have \d+ bytes, ONNX files at most 2\^31"):
        stream_model(onnx.ModelProto(), {"w": too_large})
    weights = np.broadcast_to(np.float32(0), (2**16, 2**14))
    model = fc.Sequential(fc.Linear(2, 2))
    model.input_shape = (2,)
    graph = model.graph()
    graph.constants["0.weight"] = weights
    from fastcnn.io.onnx_export import to_onnx

    with pytest.raises(ValueError, match=r"export_onnx: the weights have 4294967304 bytes, ONNX files at most 2\^31"):
        to_onnx(graph, {"x": (1, 2)}, {})
