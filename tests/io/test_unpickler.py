"""Tests of the pickle interpreter: plain data is read as Python reads it, all else refused and never run."""

from __future__ import annotations

import os
import pickle
import posix
import re
import struct
import tracemalloc

import pytest

from fastcnn.errors import ModelLoadError
from fastcnn.io._torch_tensor import ALLOWED
from fastcnn.io._unpickler import DataUnpickler
from fastcnn.io.torch_checkpoint import load_torch_checkpoint
from fastcnn.ops.budget import Budget


def load(content: bytes) -> object:
    return DataUnpickler(content, ALLOWED, lambda key: key, Budget()).load()


def text(value: str) -> bytes:
    """Return the opcode that pushes a string."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        [None, True, False, 0, 255, 65535, -1, 2**31 - 1, -(2**63), 2**300, 0.5, float("inf"), "", "é𝄞"],
        [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[]], {}, {"a": {"b": [1]}}],
        ["same", "same"] * 300,
        {f"name{i}": (i, [i]) for i in range(1000)},
    ],
)
def test_plain_data_is_read_as_python_reads_it(protocol, value):
    assert load(pickle.dumps(value, protocol)) == value


def test_integer_keys_become_their_digits():
    assert load(pickle.dumps({3: 1, -(2**70): 2, "3": 3}, 2)) == {b"3": 1, b"%d" % -(2**70): 2, "3": 3}


def test_several_pickles_one_after_the_other():
    pickles = DataUnpickler(pickle.dumps([1, 2], 2) + pickle.dumps({"a": 1}, 4) + b"rest", {}, str, Budget())
    assert pickles.load() == [1, 2]
    assert pickles.load() == {"a": 1}
    assert pickles.position == len(pickle.dumps([1, 2], 2) + pickle.dumps({"a": 1}, 4))


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


ORDERED = b"ccollections\nOrderedDict\n"
NUMBERS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
# What would run leaves a trace in the working folder.
HOSTILE = {
    "runs a program": (pickle.dumps(Call(os.system, "mkdir trace"), 2), "'posix.system'"),
    "runs a program, newest protocol": (pickle.dumps(Call(os.system, "mkdir trace"), 5), "'posix.system'"),
    "runs a program by its alias": (b"cos\nsystem\n(" + text("mkdir trace") + b"tR.", "'os.system'"),
    "makes a folder in a list": (pickle.dumps([1, Call(posix.mkdir, "trace")], 2), "'posix.mkdir'"),
    "makes a folder in a key": (b"}cos\nmkdir\n" + text("trace") + b"\x85RNs.", "'os.mkdir'"),
    "makes a folder in a state": (ORDERED + b")Rcos\nmkdir\n" + text("trace") + b"\x85Rb.", "'os.mkdir'"),
    "evaluates": (pickle.dumps(Call(eval, "__import__('os').mkdir('trace')"), 4), "'builtins.eval'"),
    "evaluates in Python 2": (pickle.dumps(Call(eval, "1"), 2), "'__builtin__.eval'"),
    "executes": (pickle.dumps(Call(exec, "import os; os.mkdir('trace')"), 4), "'builtins.exec'"),
    "imports": (pickle.dumps(Call(__import__, "antigravity"), 4), "'builtins.__import__'"),
    "getattr": (pickle.dumps(Call(getattr, "", "join"), 4), "'builtins.getattr'"),
    "nested global": (b"\x8c\x05torch\x8c\x08Size.mro\x93.", "'torch.Size.mro'"),
    "global inside an allowed module": (b"ctorch._utils\nos.system\n.", "'torch._utils.os.system'"),
    "loads another pickle": (b"ctorch\nload\n" + text("x") + b"\x85R.", "'torch.load'"),
    "makes an array": (b"cnumpy.core.multiarray\n_reconstruct\n.", "'numpy.core.multiarray._reconstruct'"),
    "global named by numbers": (b"K\x01K\x02\x93.", "name is overlong or not a string"),
    "overlong global": (b"c" + b"a" * 5000 + b"\nb\n.", "overlong global name"),
    "overlong global on the stack": (text("a" * 5000) + text("b") + b"\x93.", "name is overlong"),
    "endless global": (b"cos", "endless or overlong global name"),
    "instance": (b"(ios\nsystem\n.", "opcode b'i'"),
    "object": (b"(cos\nsystem\no.", "'os.system'"),
    "object of an allowed class": (b"(" + ORDERED + b"o.", "opcode b'o'"),
    "new object": (ORDERED + b")\x81.", "opcode b'\\x81'"),
    "extension registry": (b"\x82\x01.", "opcode b'\\x82'"),
    "out-of-band buffer": (b"\x97.", "opcode b'\\x97'"),
    "textual persistent id": (b"Pstorage\n.", "opcode b'P'"),
    "unknown opcode": (b"\xff.", "opcode b'\\xff'"),
    "calls a number type": (NUMBERS + b")R.", "calls a NumberType"),
    "calls a string": (text("print") + b")R.", "calls a str"),
    "calls without a tuple": (ORDERED + b"]R.", "expected an allowed function"),
    "sets attributes of a function": (REBUILD + b"}b.", "sets attributes of a function"),
    "sets attributes of a class": (ORDERED + b"}b.", "sets attributes of a type"),
    "sets attributes of a number type": (NUMBERS + b"N}\x86b.", "sets attributes of a NumberType"),
    "sets items of a class": (ORDERED + text("get") + b"Ns.", "sets items of a type"),
    "sets items in odd number": (b"}(Nu.", "expected a dict and pairs"),
    "appends to a tuple": (b")Na.", "appends to a tuple"),
    "OrderedDict of a string": (ORDERED + text("ab") + b"\x85R.", "other arguments than a list of pairs"),
    "OrderedDict of triples": (ORDERED + b"]NNN\x87a\x85R.", "other arguments than a list of pairs"),
    "OrderedDict of two": (ORDERED + b"]]\x86R.", "other arguments than a list of pairs"),
    "key is a deep tuple": (b"})" + b"\x85" * 100_000 + b"Ns.", "key that is overlong or of type tuple"),
    "key is a list": (b"}]Ns.", "key that is overlong or of type list"),
    "key is overlong": (b"}" + text("a" * 2000) + b"Ns.", "key that is overlong or of type str"),
    "stack is empty": (b"\x85.", "a value that is not there"),
    "stack is emptied beyond a mark": (b"N(\x85.", "a value that is not there"),
    "nothing is left": (b".", "a value that is not there"),
    "mark is missing": (b"t.", "lacks a mark"),
    "memo is empty": (b"h\x07.", "unknown memo 7"),
    "memo is huge": (b"Nr\xff\xff\xff\xff.", "memo 4294967295"),
    "string is huge": (b"X\xff\xff\xff\xff.", "truncated"),
    "string is not UTF-8": (text("\ud800") + b".", "not in UTF-8"),
    "integer is huge": (b"\x8b\xff\xff\xff\x7f.", "opcode b'\\x8b'"),
    "protocol is unknown": (b"\x80\x63N.", "protocol 99"),
    "torch.Size of strings": (b"ctorch\nSize\n" + text("a") + b"\x85\x85R.", "torch.Size that is not"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[case]
    with pytest.raises(ModelLoadError, match=re.escape(message)):
        load(content)
    start = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    with pytest.raises(ModelLoadError, match="^<bytes>: .*" + re.escape(message)):
        load_torch_checkpoint(start + content)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b")" + b"\x85" * 300_000 + b".",
        b"]" + b"]" * 300_000 + b"a" * 300_000 + b".",
        b")q\x00" + b"h\x00h\x00\x86q\x00" * 1000 + b".",
        b"}q\x00" + text("a") + b"h\x00s.",
    ],
    ids=["tuples", "lists", "doubled again and again", "contains itself"],
)
def test_depth_does_no_harm(content):
    load(content)


def test_bombs_cost_little_memory():
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadError, match="more than 1000000 steps"):
            load(b"}" * 2_000_000)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ORDERED + b"q\x00](" + b"K\x01N\x86" * 1000 + b"e\x85q\x01" + b"h\x00h\x01R" * 100_000,
            "more than 1000000 steps",
        ),
        (text("a" * (15 << 20)) + b"q\x00" + b"h\x00h\x00\x93" * 10_000, "name is overlong"),
    ],
    ids=["dicts of the same pairs", "overlong globals"],
)
def test_work_is_not_multiplied_by_the_memo(content, message):
    with pytest.raises(ModelLoadError, match=message):
        load(content)


def test_truncated_pickles_are_refused():
    content = pickle.dumps({"a": [1, 2.5, "text", (None, True)], "b": {"c": 2**40}}, 4)
    for length in range(len(content)):
        with pytest.raises(ModelLoadError):
            load(content[:length])
