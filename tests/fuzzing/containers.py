"""Changes of safetensors files and of the models in them: read as far as possible, changed, and written again."""

from __future__ import annotations

import json
import random
import struct
from inspect import Parameter
from math import prod
from typing import Any

from fuzzing.changes import OTHERS, change_tree, changed_bytes, number

from fastcnn import ops
from fastcnn.ops.general import TABLE

_METADATA = "__metadata__"
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
          "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}  # fmt: skip
_WORDS = (*_SIZES, _METADATA, "dtype", "shape", "data_offsets", "fastcnn", "1")
_OPERATIONS = (*ops.names(), *TABLE)
_OF_ONE = [name for name in _OPERATIONS if ops.get(name).required == 1]
_LARGEST = 1 << 16  # bytes of an array that is made to fit
_OP, _NAME, _INPUTS, _OUTPUT, _ATTRIBUTES = range(5)


def changed_container(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with one change; of the model's graph in most cases, if it is one."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        data = content[8 + length :]
        kind = rng.random()
        if kind < 0.7 and "graph" in header.get(_METADATA, ""):
            _change_metadata(header[_METADATA], rng)
        elif kind < 0.8:
            data = _change_array(header, data, rng)
        elif kind < 0.9:
            change_tree(header, rng, _WORDS)
        else:
            return changed_bytes(content, rng)
        text = json.dumps(header).encode()
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return changed_bytes(content, rng)
    return struct.pack("<Q", len(text)) + text + data


def _change_metadata(metadata: dict[str, str], rng: random.Random) -> None:
    key = "graph" if rng.random() < 0.9 else rng.choice(list(metadata))
    tree = [json.loads(metadata[key])]
    if key == "graph" and rng.random() < 0.2:
        shape = next(iter(tree[0]["inputs"].values()))
        shape[rng.randrange(1, len(shape))] = number(rng)
        metadata["input_shape"] = json.dumps(shape[1:])
    elif key == "graph" and rng.random() < 0.9:
        _change_graph(tree[0], rng)
    else:
        change_tree(tree, rng, _OPERATIONS)
    metadata[key] = json.dumps(tree[0])


def _change_graph(graph: dict[str, Any], rng: random.Random) -> None:
    """A change that keeps the structure: another operation, other sizes, another operand, another node."""
    nodes = graph["nodes"]
    at = rng.randrange(len(nodes))
    node = nodes[at]
    names = [*graph["inputs"], *(other[_OUTPUT] for other in nodes)]
    names += [name for other in nodes for name in other[_INPUTS]]
    kind = rng.randrange(10)
    if kind == 0:
        _set_operation(node, rng.choice(_OPERATIONS), rng)
    elif kind < 5:
        new = [node[_OP], f"{node[_NAME]}_{len(nodes)}", [node[_OUTPUT], *node[_INPUTS][1:]],
               f"{node[_OUTPUT]}_{len(nodes)}", dict(node[_ATTRIBUTES])]  # fmt: skip
        if rng.random() < 0.9:
            _set_operation(new, rng.choice(_OF_ONE), rng)
            new[_INPUTS] = [node[_OUTPUT]]
        for later in nodes[at + 1 :]:
            later[_INPUTS] = [new[_OUTPUT] if name == node[_OUTPUT] else name for name in later[_INPUTS]]
        nodes.insert(at + 1, new)
    elif kind == 5 and node[_INPUTS]:
        node[_INPUTS][rng.randrange(len(node[_INPUTS]))] = rng.choice(names)
    elif kind == 6:
        del nodes[at]
    elif node[_ATTRIBUTES]:
        _change_attribute(node[_ATTRIBUTES], rng)


def _set_operation(node: list[Any], name: str, rng: random.Random) -> None:
    node[_OP] = name
    defaults = {key: value for key, value in ops.get(name).defaults.items() if value is not Parameter.empty}
    node[_ATTRIBUTES] = {key: [2, 2] if value == () else value for key, value in defaults.items()}
    if node[_ATTRIBUTES] and rng.random() < 0.5:
        _change_attribute(node[_ATTRIBUTES], rng)


def _change_attribute(attributes: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(list(attributes))
    value = attributes[name]
    if isinstance(value, (list, tuple)) and value:
        attributes[name] = [number(rng) if rng.random() < 0.5 else item for item in value]
    elif isinstance(value, (int, float)) and rng.random() < 0.9:
        attributes[name] = number(rng)
    else:
        attributes[name] = rng.choice((*OTHERS, [number(rng)] * 2, [number(rng)] * 4))


def _change_array(header: dict[str, Any], data: bytes, rng: random.Random) -> bytes:
    """Give an array another type or shape, and the file the bytes for it: it is a valid file."""
    name = rng.choice([name for name in header if name != _METADATA])
    entry = header[name]
    if rng.random() < 0.4:
        entry["dtype"] = rng.choice(list(_SIZES))
    elif entry["shape"] and rng.random() < 0.8:
        entry["shape"][rng.randrange(len(entry["shape"]))] = number(rng)
    else:
        entry["shape"] = [number(rng) for _ in range(rng.randrange(5))]
    if not all(type(length) is int for length in entry["shape"]):
        return data
    size = prod(entry["shape"]) * _SIZES[entry["dtype"]]
    begin, end = entry["data_offsets"]
    if not 0 <= size <= _LARGEST:
        return data
    old = data[begin:end]
    for other in header:
        if other != _METADATA and header[other]["data_offsets"][0] >= end and other != name:
            header[other]["data_offsets"] = [place + size - (end - begin) for place in header[other]["data_offsets"]]
    entry["data_offsets"] = [begin, begin + size]
    return data[:begin] + (old + rng.randbytes(max(0, size - len(old))))[:size] + data[end:]
