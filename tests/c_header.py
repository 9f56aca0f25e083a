"""csrc/fastcnn.h as ctypes sees it, read from the header: structs, enumeration constants, and the tables of tiles."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from pathlib import Path

from fastcnn.kernels import _cpu

HEADER = Path(__file__).parents[1] / "csrc" / "fastcnn.h"
_NUMBERS = {
    "int": ctypes.c_int, "float": ctypes.c_float, "double": ctypes.c_double, "ptrdiff_t": ctypes.c_ssize_t,
}  # fmt: skip
_STRUCT = re.compile(r"typedef struct \{(.*?)\} (\w+);", re.DOTALL)
_FUNCTION = re.compile(r"(?P<result>\w+) \(\*(?P<name>\w+)(?:\[(?P<count>\d+)\])?\)\((?P<arguments>.*)\)", re.DOTALL)


def _text() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def _type_of(declaration: str, structs: dict[str, type]) -> type:
    """The type of `const float *x`; any pointer is an address."""
    if "*" in declaration:
        return ctypes.c_void_p
    words = [word for word in declaration.split() if word != "const"]
    return structs.get(words[0]) or _NUMBERS[words[0]]


def _fields(body: str, structs: dict[str, type]) -> list[tuple[str, type]]:
    fields: list[tuple[str, type]] = []
    for statement in filter(None, (part.strip() for part in body.split(";"))):
        if function := _FUNCTION.fullmatch(statement):
            result = None if function["result"] == "void" else _NUMBERS[function["result"]]
            arguments = [_type_of(argument, structs) for argument in function["arguments"].split(",")]
            kind = ctypes.CFUNCTYPE(result, *arguments)
            fields.append((function["name"], kind * int(function["count"]) if function["count"] else kind))
            continue
        kind_of_all, names = re.fullmatch(r"((?:const )?\w+ )(.*)", statement, re.DOTALL).groups()
        for name in names.split(","):
            name, _, count = name.strip(" *\n]").partition("[")
            kind = _type_of(kind_of_all + ("*" if "*" in names else ""), structs)
            fields.append((name, kind * int(count) if count else kind))
    return fields


@cache
def structs() -> dict[str, type[ctypes.Structure]]:
    """Every struct of the header, by name."""
    found: dict[str, type[ctypes.Structure]] = {}
    for body, name in _STRUCT.findall(_text()):
        found[name] = type(name, (ctypes.Structure,), {"_fields_": _fields(body, found)})
    return found


@cache
def constants() -> dict[str, int]:
    """Every enumeration constant of the header, by name."""
    return {
        name.strip(): value
        for body in re.findall(r"enum \{(.*?)\};", _text(), re.DOTALL)
        for value, name in enumerate(body.split(","))
    }


def tile_fields() -> dict[str, int]:
    """The fields of the table that are tiles, and how many functions each holds."""
    fields = structs()["fc_kernels"]._fields_
    data = (*_NUMBERS.values(), ctypes.c_void_p)
    return {name: getattr(kind, "_length_", 1) for name, kind in fields if kind not in data}


def table_of(isa: str) -> ctypes.Structure:
    """The table of an instruction set that this machine runs."""
    capsule = _cpu.__pyx_capi__["current"]  # how compiled modules call each other
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    current = ctypes.CFUNCTYPE(ctypes.c_void_p)(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))
    previous = _cpu.set_isa(isa)
    try:
        return structs()["fc_kernels"].from_address(current())
    finally:
        _cpu.set_isa(previous)
