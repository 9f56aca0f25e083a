"""Reads pickles that hold data only: an interpreter of the few opcodes that plain data needs.

The standard unpickler is not safe for hostile files, even with restricted globals. The index of LONG_BINPUT in a file
of 20 bytes makes it allocate gigabytes. The hash of a deeply nested tuple overflows the C stack. BUILD can change any
object within reach. Here a dictionary key is a number or a short name. Only lists and dictionaries can be changed, and
nothing recurses. Each step takes constant time and memory, so that the limits below bound both. A budget limits the
memory further. The caller knows what the allowed globals mean, and adds the file's name to errors.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping

from fastcnn.errors import ModelLoadError
from fastcnn.ops.budget import Budget

__all__ = ["MAX_PICKLE_BYTES", "DataUnpickler"]

# A tensor takes about 140 bytes and 45 steps of a checkpoint's pickle: the limits have room for some 20 000 tensors.
MAX_PICKLE_BYTES = 16 << 20
_MAX_STEPS = 1_000_000
# The most bytes of a step, and the number of steps that are charged to the budget at a time.
_STEP_BYTES, _PREPAID = 128, 1024
# Characters of a global or a dictionary key. Comparing keys takes time in proportion to their length.
_MAX_NAME = 1024


class DataUnpickler:
    """Reads one pickle after the other from a byte string.

    Parameters
    ----------
    data : bytes
        The pickles, and perhaps something else after them.
    allowed : mapping of str to object
        The object of each dotted global name. A callable is a function that the pickle may call with a tuple of
        arguments. It must check them and take constant time.
    persistent_load : callable
        Turns a persistent id, an arbitrary object that it must check, into an object.
    budget : Budget
        Limit to the memory of the objects, without the bytes of strings.
    """

    def __init__(
        self,
        data: bytes,
        allowed: Mapping[str, object],
        persistent_load: Callable[[object], object],
        budget: Budget,
    ) -> None:
        self.position = 0
        self._budget = budget
        self._data = data
        self._allowed = {"collections.OrderedDict": OrderedDict, **allowed}
        self._persistent_load = persistent_load
        self._steps = self._paid = 0
        self._stack: list[object] = []
        self._outer_stacks: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def load(self) -> object:
        """Return the object that is pickled at ``position``, and move ``position`` to its end.

        Returns
        -------
        object
            It consists of None, bool, int, float, str, tuple, list, dict, and of results of `allowed` and
            `persistent_load`. An OrderedDict becomes a dict. Keys of dictionaries are str. Integers among them become
            bytes of their decimal digits.

        Raises
        ------
        ModelLoadError
            If the pickle is damaged, too large, or holds anything else.

        Examples
        --------
        >>> import pickle
        >>> DataUnpickler(pickle.dumps({"size": (2, 3)}), {}, lambda key: key, Budget()).load()
        {'size': (2, 3)}
        >>> DataUnpickler(pickle.dumps(print), {}, lambda key: key, Budget()).load()
        Traceback (most recent call last):
        fastcnn.errors.ModelLoadError: pickle refers to 'builtins.print', expected only tensors and plain data
        """
        self._stack, self._outer_stacks, self._memo = [], [], {}
        while True:
            self._charge(1)
            code = self._take(1)
            if code == pickle.STOP:
                return self._pop()
            step = _STEPS.get(code)
            if step is None:
                raise ModelLoadError(
                    f"pickle has opcode {code!r} at byte {self.position - 1}, which plain data does not need"
                )
            step(self)

    def _charge(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise ModelLoadError(f"pickle takes more than {_MAX_STEPS} steps to read")
        if self._steps > self._paid:
            ahead = self._steps - self._paid + _PREPAID
            self._budget.keep(_STEP_BYTES * ahead, f"pickle: its objects from byte {self.position} on")
            self._paid += ahead

    def _take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self._data):
            raise ModelLoadError(f"truncated: pickle does not end within {len(self._data)} bytes")
        return self._data[start : self.position]

    def _unsigned(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _text(self, count: int) -> str:
        try:
            return self._take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise ModelLoadError(f"pickle has a string not in UTF-8 before byte {self.position}") from None

    def _line(self) -> str:
        end = self._data.find(b"\n", self.position, self.position + _MAX_NAME)
        if end < 0:
            raise ModelLoadError(f"pickle has an endless or overlong global name at byte {self.position}")
        line = self._text(end - self.position)
        self.position += 1
        return line

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _top(self) -> object:
        if not self._stack:
            raise ModelLoadError(f"pickle uses a value that is not there before byte {self.position}")
        return self._stack[-1]

    def _pop(self) -> object:
        value = self._top()
        del self._stack[-1]
        return value

    def _mark(self) -> None:
        self._outer_stacks.append(self._stack)
        self._stack = []

    def _pop_to_mark(self) -> list[object]:
        if not self._outer_stacks:
            raise ModelLoadError(f"pickle lacks a mark before byte {self.position}")
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    def _push_tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ModelLoadError(f"pickle refers to unknown memo {index} before byte {self.position}")
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        if index > _MAX_STEPS:
            raise ModelLoadError(f"pickle uses memo {index}, expected at most {_MAX_STEPS}")
        self._memo[index] = self._top()

    def _append(self, items: list[object]) -> None:
        target = self._top()
        if type(target) is not list:
            raise ModelLoadError(f"pickle appends to a {type(target).__name__}, expected a list")
        target.extend(items)

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        if type(target) is not dict or len(items) % 2:
            raise ModelLoadError(f"pickle sets items of a {type(target).__name__}, expected a dict and pairs")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(module) is not str or type(name) is not str or len(module) + len(name) > _MAX_NAME:
            raise ModelLoadError("pickle has a global whose name is overlong or not a string")
        self._global(module, name)

    def _global(self, module: str, name: str) -> None:
        dotted = f"{module}.{name}"
        if dotted not in self._allowed:
            raise ModelLoadError(f"pickle refers to {dotted[:80]!r}, expected only tensors and plain data")
        self._push(self._allowed[dotted])

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(arguments) is not tuple or not callable(function):
            raise ModelLoadError(f"pickle calls a {type(function).__name__}, expected an allowed function")
        self._push(self._new_dict(arguments) if function is OrderedDict else function(arguments))

    def _new_dict(self, arguments: tuple[object, ...]) -> dict[str | bytes, object]:
        """Return OrderedDict(*arguments): none, or (as Python 2 pickles it) one list of [key, value]."""
        pairs = arguments[0] if len(arguments) == 1 else []
        if len(arguments) > 1 or type(pairs) is not list:
            raise ModelLoadError("pickle calls OrderedDict with other arguments than a list of pairs")
        self._charge(len(pairs))  # a pickle may use the same list many times
        result: dict[str | bytes, object] = {}
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise ModelLoadError("pickle calls OrderedDict with other arguments than a list of pairs")
            result[_checked_key(pair[0])] = pair[1]
        return result

    def _build(self) -> None:
        """Drop the attributes of a dictionary, such as PyTorch's ``_metadata``. No other object may have any."""
        self._pop()
        target = self._top()
        if type(target) is not dict:
            raise ModelLoadError(f"pickle sets attributes of a {type(target).__name__}")

    def _protocol(self, version: int) -> None:
        if version > pickle.HIGHEST_PROTOCOL:
            raise ModelLoadError(f"pickle has protocol {version}, expected at most {pickle.HIGHEST_PROTOCOL}")


def _checked_key(key: object) -> str | bytes:
    if type(key) is str and len(key) <= _MAX_NAME:
        return key
    if type(key) is int:
        # Integers hash to themselves, so that a file can choose a million that collide. Bytes do not.
        return b"%d" % key
    raise ModelLoadError(f"pickle has a dictionary key that is overlong or of type {type(key).__name__}")


_STEPS: dict[bytes, Callable[[DataUnpickler], object]] = {
    pickle.PROTO: lambda u: u._protocol(u._unsigned(1)),
    pickle.FRAME: lambda u: u._take(8),
    pickle.MARK: DataUnpickler._mark,
    pickle.NONE: lambda u: u._push(None),
    pickle.NEWTRUE: lambda u: u._push(True),
    pickle.NEWFALSE: lambda u: u._push(False),
    pickle.BININT: lambda u: u._push(int.from_bytes(u._take(4), "little", signed=True)),
    pickle.BININT1: lambda u: u._push(u._unsigned(1)),
    pickle.BININT2: lambda u: u._push(u._unsigned(2)),
    pickle.LONG1: lambda u: u._push(int.from_bytes(u._take(u._unsigned(1)), "little", signed=True)),
    pickle.BINFLOAT: lambda u: u._push(struct.unpack(">d", u._take(8))[0]),
    pickle.SHORT_BINSTRING: lambda u: u._push(u._text(u._unsigned(1))),
    pickle.BINSTRING: lambda u: u._push(u._text(u._unsigned(4))),
    pickle.SHORT_BINUNICODE: lambda u: u._push(u._text(u._unsigned(1))),
    pickle.BINUNICODE: lambda u: u._push(u._text(u._unsigned(4))),
    pickle.EMPTY_TUPLE: lambda u: u._push(()),
    pickle.TUPLE1: lambda u: u._push_tuple(1),
    pickle.TUPLE2: lambda u: u._push_tuple(2),
    pickle.TUPLE3: lambda u: u._push_tuple(3),
    pickle.TUPLE: lambda u: u._push(tuple(u._pop_to_mark())),
    pickle.EMPTY_LIST: lambda u: u._push([]),
    pickle.APPEND: lambda u: u._append([u._pop()]),
    pickle.APPENDS: lambda u: u._append(u._pop_to_mark()),
    pickle.EMPTY_DICT: lambda u: u._push({}),
    pickle.SETITEM: lambda u: u._set_items([u._pop(), u._pop()][::-1]),
    pickle.SETITEMS: lambda u: u._set_items(u._pop_to_mark()),
    pickle.BINGET: lambda u: u._get(u._unsigned(1)),
    pickle.LONG_BINGET: lambda u: u._get(u._unsigned(4)),
    pickle.BINPUT: lambda u: u._put(u._unsigned(1)),
    pickle.LONG_BINPUT: lambda u: u._put(u._unsigned(4)),
    pickle.MEMOIZE: lambda u: u._put(len(u._memo)),
    pickle.GLOBAL: lambda u: u._global(u._line(), u._line()),
    pickle.STACK_GLOBAL: DataUnpickler._stack_global,
    pickle.REDUCE: DataUnpickler._reduce,
    pickle.BUILD: DataUnpickler._build,
    pickle.BINPERSID: lambda u: u._push(u._persistent_load(u._pop())),
}
