"""Files of protobuf messages that grow in memory are refused before protobuf makes them; what is taken apart says the
same as the file in one piece."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnx
import onnx_builders as build
import pytest
from costly_files import outcome
from google.protobuf.message import DecodeError
from onnx import TensorProto

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_parts import OnnxParts, _message_bytes
from fastcnn.io._wire import BYTES, VARINT, WireError, read_field, record_header, tag_of
from fastcnn.onnx_model import load_onnx
from fastcnn.ops.budget import Budget

BUDGET = 16 << 20
MODEL = build.classifier().SerializeToString()


def inside(content, *numbers):
    """What messages in messages hold, from the innermost out."""
    for number in numbers:
        content = record_header(number, len(content)) + content
    return content


NODE, TENSOR, ATTRIBUTE = (1, 7), (5, 7), (5, 1, 7)
# For each field that may be there often: the smallest, and in which messages it is.
SMALLEST = {
    "nodes": (b"\x0a\0", (7,)),
    "initializers": (b"\x2a\0", (7,)),
    "inputs of the graph": (b"\x5a\0", (7,)),
    "sparse initializers": (b"\x7a\0", (7,)),
    "metadata": (b"\x72\0", ()),
    "functions": (b"\xca\x01\0", ()),
    "training": (b"\xa2\x01\0", ()),
    "opsets": (b"\x42\0", ()),
    "attributes": (b"\x2a\0", NODE),
    "graphs": (b"\x5a\0", ATTRIBUTE),
    "tensors": (b"\x52\0", ATTRIBUTE),
    "inputs of a node": (b"\x0a\0", NODE),
    "names of inputs": (b"\x0a\x06aaaaaa", NODE),
    "dimensions": (b"\x08\x01", TENSOR),
    "numbers": (b"\x40\x01", ATTRIBUTE),
    "decimals": (b"\x3d\0\0\0\0", ATTRIBUTE),
    "sizes": (b"\x0a\0", (2, 1, 2, 11, 7)),
    "unknown numbers in nodes": (b"\x0a\x03\xc8\x3e\x01", (7,)),
    "unknown texts in nodes": (b"\x0a\x04\xca\x3e\x01a", (7,)),
    "known numbers of other types": (b"\x0d\0\0\0\0", NODE),
}


def content_of(case, count):
    element, place = SMALLEST[case]
    return b"\x08\x08" + inside(element * count, *place)


def peak_of(run):
    """Bytes by which this process grows at its peak while something runs."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now what is in use

    def memory(kind):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))

    before = memory("VmRSS")
    result = run()
    return memory("VmHWM") - before, result


@pytest.mark.parametrize("case", SMALLEST)
def test_messages_take_no_more_than_was_asked(case):
    """Nearly as many as are allowed are parsed, within the budget; a few more are not even begun with."""
    each = (_message_bytes(content_of(case, 2000), Budget()) - _message_bytes(content_of(case, 1000), Budget())) / 1000
    allowed = min(BUDGET / each, 200_000)
    few, many = (content_of(case, int(part * allowed)) for part in (0.95, 1.5))
    taken, parts = peak_of(lambda: OnnxParts(few, Budget(BUDGET)))
    assert taken < BUDGET + 2 * len(few)
    assert all(raw is None for _, raw in parts.tensors())

    def refused():
        with pytest.raises(ModelLoadError, match=r"its first \d+ messages, texts and numbers: needs .*, more than"):
            OnnxParts(many, Budget(BUDGET))

    assert peak_of(refused)[0] < BUDGET / 2  # the allocator takes some megabytes at a time


def test_sixty_megabytes_of_nothing(tmp_path):
    """They would become four gigabytes."""
    path = tmp_path / "nothing.onnx"
    path.write_bytes(content_of("nodes", 30_000_000))
    found = outcome(path, 256 << 20)
    assert found["outcome"] == "refused" and "messages, texts and numbers: needs" in found["message"], found
    assert found["peak"] < 80 << 20, found


@pytest.mark.parametrize("number", [1, 7, 8, 11])
def test_numbers_of_several_in_one_field_are_counted(number):
    """Of one byte each, they become eight or more."""
    packed = inside(b"\x01" * 1_000_000, number, *(TENSOR if number in (1, 7, 11) else ATTRIBUTE))
    with pytest.raises(ModelLoadError, match="first . messages, texts and numbers: needs 2400.... bytes"):
        load_onnx(b"\x08\x08" + packed, max_bytes=BUDGET)
    long = inside(b"\xff\xff\xff\x7f" * 500_000, number, *(TENSOR if number in (1, 7, 11) else ATTRIBUTE))
    OnnxParts(b"\x08\x08" + long, Budget(BUDGET))


def test_messages_deeper_than_protobuf_goes_are_refused():
    content = b""
    for _ in range(20_000):
        content = inside(content, 6, 5, 1)  # a graph in an attribute in a node
    with pytest.raises(ModelLoadError, match="not an ONNX file, or a damaged one"):
        load_onnx(b"\x08\x08" + inside(content, 7))


# -- the same, in parts -------------------------------------------------------------------------------


def joined(parts):
    """The model that was taken apart."""
    model = onnx.ModelProto()
    model.CopyFrom(parts.model)
    assert not model.HasField("graph") and not parts.graph.initializer
    model.graph.CopyFrom(parts.graph)
    for tensor, raw in parts.tensors():
        assert not tensor.HasField("raw_data")
        added = model.graph.initializer.add()
        added.CopyFrom(tensor)
        if raw is not None:
            added.raw_data = bytes(raw)
    return model


def test_files_in_parts_are_what_they_are_as_a_whole(budget):
    """Also damaged ones, which both refuse; and none is understood otherwise than protobuf does."""
    rng = np.random.default_rng(31)
    files = [MODEL, build.transformer().SerializeToString()]
    both = refused = 0
    for i in range(budget(2000, 100_000)):
        content = bytearray(files[i % 2])
        for _ in range(int(rng.integers(0, 3))):
            place = int(rng.integers(len(content)))
            if rng.random() < 0.3:
                del content[place : place + int(rng.integers(1, 40))]
            else:
                content[place] = int(rng.integers(256))
        try:
            expected = onnx.ModelProto.FromString(bytes(content))
        except DecodeError:
            expected = None
        try:
            found = joined(OnnxParts(bytes(content), Budget()))
        except ModelLoadError as error:
            refused += 1
            assert expected is None or "which ONNX does not use" in str(error)
        else:
            both += 1
            assert expected is not None
            expected.graph.SetInParent()
            assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert both > 400 and refused > 400


def test_parts_of_messages_that_come_twice_are_merged():
    """As the format has it: a graph in two, and raw data twice in one tensor, of which the last hold."""
    cut = onnx.ModelProto.FromString(MODEL).graph
    first, second = onnx.GraphProto(), onnx.GraphProto()
    first.MergeFrom(cut)
    first.ClearField("node")
    second.node.extend(cut.node)
    head = onnx.ModelProto.FromString(MODEL)
    head.ClearField("graph")
    content = head.SerializeToString() + b"".join(inside(part.SerializeToString(), 7) for part in (first, second))
    assert joined(OnnxParts(content, Budget())) == onnx.ModelProto.FromString(MODEL)
    twice = TensorProto(name="t", raw_data=b"first").SerializeToString() + inside(b"second", 9)
    ((tensor, raw),) = OnnxParts(inside(twice, *TENSOR), Budget()).tensors()
    assert (tensor.name, bytes(raw)) == ("t", b"second")


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31 - 1])
def test_headers_are_read_as_they_are_written(value):
    for number in (1, 15, 16, 2047, 2048):
        header = record_header(number, value)
        assert read_field(header, 0) == (tag_of(number, BYTES), len(header), len(header) + value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x0b", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0e", "wire type 6"),
        (b"\xff" * 12, "more than 10 bytes"),
    ],
)
def test_fields_that_onnx_does_not_have_are_refused(content, message):
    with pytest.raises(WireError, match=message):
        read_field(content + b"\0" * 20, 0)
    assert read_field(b"\x08\xff\x01", 0) == (tag_of(1, VARINT), 1, 3)
