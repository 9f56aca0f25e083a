"""Tests of safetensors files and of read_weights: round trips and hostile files; saving safely is test_saving.py's."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from fastcnn.errors import ModelLoadError
from fastcnn.io import weights
from fastcnn.io.weights import read_safetensors, read_weights, write_safetensors

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype and actual.dtype.isnative and actual.shape == expected.shape
    assert actual.flags.c_contiguous and actual.flags.writeable and actual.flags.aligned
    assert actual.tobytes() == expected.tobytes()


def safetensors_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), end: int = 8, start: int = 0) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_round_trip(tmp_path, dtype, shape):
    rng = np.random.default_rng(9)
    array = rng.integers(0, 2, shape).astype(dtype) if dtype == "?" else rng.normal(0, 50, shape).astype(dtype)
    write_safetensors(tmp_path / "net", {"é.weight": array, "b": np.ones(3, "f4")}, {"classes": "cat\n狗"})
    tensors, metadata = read_safetensors(tmp_path / "net")
    assert list(tensors) == ["b", "é.weight"] and metadata == {"classes": "cat\n狗"}
    assert_equal(tensors["é.weight"], np.asarray(array))
    assert_equal(read_weights(str(tmp_path / "net"))["é.weight"], np.asarray(array))


@pytest.mark.parametrize("metadata", [{}, {"classes": 'cat\n\x01狗\u2028"/\\\x7f'}])
def test_the_same_bytes_as_the_safetensors_package_writes(tmp_path, metadata):
    rng = np.random.default_rng(8)
    arrays = {
        f"{place}.{dtype}": rng.integers(0, 2, (3, place)).astype(dtype) for place in (5, 0, 1) for dtype in DTYPES
    }
    write_safetensors(tmp_path / "net", arrays, metadata)
    assert (tmp_path / "net").read_bytes() == safetensors.numpy.save(arrays, metadata)


def test_layouts_are_written_as_their_contiguous_copy(tmp_path):
    array = np.arange(24, dtype="f4").reshape(4, 6)
    layouts = {
        "transposed": array.T,
        "strided": array[::2, ::-1],
        "big-endian": array.astype(">f4"),
        "read-only": np.broadcast_to(np.float32(3), (2, 2)),
        "misaligned": np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view("f4"),
    }
    write_safetensors(tmp_path / "net", {**layouts, "list": [1.5, 2.0]})
    tensors, metadata = read_safetensors(tmp_path / "net")
    assert metadata == {}
    for name, layout in layouts.items():
        assert_equal(tensors[name], np.array(layout, "f4", order="C"))
    assert_equal(tensors["list"], np.array([1.5, 2.0]))


def test_bfloat16_becomes_float32(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x8000], "<u2").tobytes()
    (tmp_path / "net").write_bytes(safetensors_file({"a": entry("BF16", (2, 2))}, bits))
    tensors, _ = read_safetensors(tmp_path / "net")
    assert_equal(tensors["a"], np.array([[1, -2], [np.inf, -0.0]], np.float32))
    (tmp_path / "net").write_bytes(safetensors_file({"a": entry("BF16", (1000,), 2000)}, bytes(2000)))
    with pytest.raises(ModelLoadError, match="its arrays: needs 4000 bytes, more than max_bytes leaves .3999"):
        read_safetensors(tmp_path / "net", max_bytes=3999)


def test_bytes_of_a_bool_are_made_valid(tmp_path):
    (tmp_path / "net").write_bytes(safetensors_file({"a": entry("BOOL", (3,), 3)}, bytes([0, 7, 255])))
    assert_equal(read_safetensors(tmp_path / "net")[0]["a"], np.array([False, True, True]))


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({3: np.ones(2)}, None, TypeError, "tensors has the name 3, expected strings"),
        (
            {"__metadata__": np.ones(2)},
            None,
            ValueError,
            "'__metadata__', which the format reserves",
        ),
        ({"a": np.ones(2, complex)}, None, TypeError, "tensors['a'].dtype=complex128, expected float64"),
        ({"a": np.ones(2, np.longdouble)}, None, TypeError, "tensors['a'].dtype=float128"),
        ({"a": np.array(["x"])}, None, TypeError, "tensors['a'].dtype=str32"),
        ({"a": np.array([None])}, None, TypeError, "tensors['a'].dtype=object"),
        ({}, {"a": 3}, TypeError, "metadata['a']=3, expected strings"),
        ({}, {3: "a"}, TypeError, "metadata[3]='a', expected strings"),
    ],
)
def test_arguments_that_cannot_be_written(tmp_path, tensors, metadata, error, message):
    with pytest.raises(error, match=re.escape(message)):
        write_safetensors(tmp_path / "net", tensors, metadata)
    assert not list(tmp_path.iterdir())


EIGHT = bytes(8)
TWICE = b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)
HOSTILE = {
    "empty": (b"", "needs bytes 0 to 8 of a file of 0"),
    "header larger than the file": (
        safetensors_file({"a": entry()}, b"", 1 << 20),
        "or its end is missing",
    ),
    "header larger than memory": (safetensors_file({}, b"", 1 << 63), "the header would be longer than the file"),
    "header is no JSON": (safetensors_file(b"{" * 50), "header: Expecting property name"),
    "header is no object": (safetensors_file([1]), "header: expected a JSON object"),
    "header is not UTF-8": (safetensors_file(b'{"\xff":1}'), "header: 'utf-8' codec"),
    "header is deep": (safetensors_file(b'{"a":' + b"[" * 100_000), "header: maximum recursion depth exceeded"),
    "name twice": (safetensors_file(TWICE, EIGHT), "header: a name twice"),
    "data is missing": (safetensors_file({"a": entry()}), "tensors of 8 bytes, but 0 follow"),
    "data is short": (safetensors_file({"a": entry()}, EIGHT[:7]), "tensors of 8 bytes, but 7 follow"),
    "data is left over": (safetensors_file({"a": entry()}, EIGHT + b"x"), "tensors of 8 bytes, but 9 follow"),
    "data with a hole": (safetensors_file({"a": entry(start=8, end=16)}, bytes(16)), "'a' starts at 8, expected 0"),
    "data backwards": (safetensors_file({"a": entry(start=8, end=0)}, EIGHT), "F32 of shape .* ends at 16"),
    "data overlaps": (
        safetensors_file({"a": entry(), "b": entry(start=4, end=12)}, bytes(12)),
        "'b' starts at 4, expected 8, where the one before ends",
    ),
    "offset is negative": (safetensors_file({"a": entry(start=-8, end=0)}, EIGHT), "'a': data_offsets, expected"),
    "size is negative": (safetensors_file({"a": entry(shape=(-2,))}, EIGHT), "'a': shape, expected"),
    "size is huge": (safetensors_file({"a": entry(shape=(1 << 64,))}, EIGHT), "'a': shape, expected"),
    "sizes overflow": (safetensors_file({"a": entry(shape=(1 << 40, 1 << 40))}, EIGHT), "ends at 48357032784585166"),
    "sizes overflow beside 0": (safetensors_file({"a": entry(shape=(0, (1 << 64) - 1), end=0)}), "sizes from 0"),
    "sizes of another length": (safetensors_file({"a": entry(shape=(3,))}, EIGHT), "F32 of shape .* ends at 12"),
    "too many sizes": (safetensors_file({"a": entry(shape=(1,) * 98 + (2,))}, EIGHT), "64"),
    "type is unknown": (safetensors_file({"a": entry("Q9")}, EIGHT), "'a' is of type Q9, expected"),
    "type is complex": (
        safetensors_file({"a": entry("C64", (1,))}, EIGHT),
        "'a' is of type C64, expected",
    ),
    "type is of 8 bits": (safetensors_file({"a": entry("F8_E4M3", (8,))}, EIGHT), "'a' is of type F8_E4M3"),
    "metadata is a number": (safetensors_file({"__metadata__": {"a": 3}}), "__metadata__, expected an object"),
    "metadata is a list": (safetensors_file({"__metadata__": []}), "__metadata__, expected an object"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(tmp_path, case):
    content, message = HOSTILE[case]
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=f"^{re.escape(str(path))}: .*{message}"):
        read_safetensors(path)


MORE_HOSTILE = {
    "type is a list": ({"a": entry([])}, "'a' is of type"),
    "size is a float": ({"a": entry(shape=(2.0,))}, "'a': shape"),
    "size is a bool": ({"a": entry(shape=(2, True))}, "'a': shape"),
    "shape is a number": ({"a": entry(shape=2)}, "'a': shape"),
    "shape is missing": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, "expected an object with dtype, shape"),
    "tensor is a list": ({"a": [1]}, "expected an object with dtype, shape"),
    "three offsets": ({"a": {**entry(), "data_offsets": [0, 8, 8]}}, "'a': data_offsets"),
    "offset is a string": ({"a": {**entry(), "data_offsets": ["0", 8]}}, "'a': data_offsets"),
    "number of a million digits": (
        b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % (b"9" * 10**6),
        "header: Exceeds the limit",
    ),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "header: "),
    "metadata twice": (b'{"__metadata__":{"a":"","a":""}}', "a name twice"),
}


@pytest.mark.parametrize("case", MORE_HOSTILE)
def test_hostile_headers_are_refused(tmp_path, case):
    header, message = MORE_HOSTILE[case]
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors_file(header, EIGHT))
    with pytest.raises(ModelLoadError, match=f"^{re.escape(str(path))}: .*{message}"):
        read_safetensors(path)


def test_a_file_replaced_meanwhile_is_not_mixed_with_the_new_one(tmp_path, monkeypatch):
    path, parse = tmp_path / "net", weights.parse_header

    def replace_and_parse(*arguments):
        write_safetensors(path, {"b": np.zeros((3, 2), "f4")})
        return parse(*arguments)

    write_safetensors(path, {"a": np.arange(6, dtype="f4")}, {"classes": "cat"})
    monkeypatch.setattr(weights, "parse_header", replace_and_parse)
    tensors, metadata = read_safetensors(path)
    assert list(tensors) == ["a"] and metadata == {"classes": "cat"}
    assert_equal(tensors["a"], np.arange(6, dtype="f4"))


def test_max_bytes_bounds_what_the_header_becomes(tmp_path):
    """In Python's objects, thirty times its size; small ones are read whatever is allowed."""
    write_safetensors(tmp_path / "net", {}, {"note": "[" + "[]," * 30_000 + "[]]"})
    with pytest.raises(ModelLoadError, match=r"header: needs 288\d+ bytes, more than max_bytes leaves .2097152"):
        read_safetensors(tmp_path / "net", max_bytes=1 << 20)
    read_safetensors(tmp_path / "net", max_bytes=3 << 20)
    write_safetensors(tmp_path / "net", {}, {"note": "[" + "[]," * 20_000 + "[]]"})
    read_safetensors(tmp_path / "net", max_bytes=1 << 17)


def test_file_larger_than_max_bytes(tmp_path):
    path = tmp_path / "net"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(ModelLoadError, match=f"the file: needs {1 << 40} bytes, more than max_bytes leaves .{4 << 30}"):
        read_safetensors(path)


def test_truncated_and_damaged_files_raise_named_errors_only(tmp_path):
    path = tmp_path / "net"
    write_safetensors(path, {"weight": np.ones((3, 4), "f4"), "bias": np.ones(3, "f2")}, {"classes": "cat"})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelLoadError):
            read_weights(path)
    rng = random.Random(8)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_safetensors(path, max_bytes=1 << 20)
        except ModelLoadError as error:
            refused += str(error).startswith(f"{path}: ")
    assert 500 < refused < 2000


def test_read_weights_goes_by_the_content(tmp_path):
    path = tmp_path / "net.bin"
    write_safetensors(path, {"a": np.ones(2)})
    assert_equal(read_weights(path)["a"], np.ones(2))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
    assert read_weights(path) == {}
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])))
    assert read_weights(path) == {}
    # The length of this header starts with the byte that a pickle starts with.
    header = json.dumps({"a": entry()}).encode().ljust(0x180)
    path.write_bytes(safetensors_file(header, EIGHT))
    assert_equal(read_weights(path)["a"], np.zeros(2, "f4"))


@pytest.mark.parametrize("content", [b"", b"\x08\x07\x12\x07pytorch:", b"\x89PNG\r\n\x1a\n\0", b"a,b\n" * 9])
def test_read_weights_refuses_other_formats(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"^{re.escape(str(path))}: .*, expected a safetensors file or a PyT"):
        read_weights(path)
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "absent")


def test_headers_larger_than_the_limit_are_refused(tmp_path):
    path = tmp_path / "net"
    path.write_bytes(((16 << 20) + 1).to_bytes(8, "little"))
    os.truncate(path, 17 << 20)  # a hole, which takes no space
    with pytest.raises(ModelLoadError, match="header has 16777217 bytes, expected at most 16777216"):
        read_safetensors(path)
