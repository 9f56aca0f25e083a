"""Docstrings of everything public are numpydoc: parameters as in the signature, what is returned, an example that runs.

A method that overrides another one has its docstring, where it has none of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from public_surface import MODULES, public

API = Path(__file__).parents[1] / "docs" / "api"
SECTION = re.compile(r"^(\w[\w ]+)\n-{3,}\n(.*?)(?=^\w[\w ]+\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
NO_ARGUMENTS = {"args", "kwargs"}  # of classes without an `__init__`
# Exceptions, which Python calls, and a dict.
TAKES_ANYTHING = {"FastcnnWarning", "ImageError", "ModelLoadError", "History"}
LISTED = dict(public())


def owner_of(name: str) -> type | None:
    """The class of a method."""
    owner = LISTED.get(name.rpartition(".")[0])
    return owner if inspect.isclass(owner) else None


def is_checked(name: str, value: Any) -> bool:
    """Whether it is called, ours, and no override that has its docstring from elsewhere."""
    ours = callable(value) and (value.__module__ or "").startswith("fastcnn")
    return ours and bool(value.__doc__ or owner_of(name) is None or not docstring(name))


def docstring(name: str) -> str:
    """Of a name, or of what it overrides."""
    owner = owner_of(name)
    return inspect.getdoc(getattr(owner, name.rpartition(".")[2]) if owner else LISTED[name]) or ""


FUNCTIONS = {
    name: value
    for name, value in {id(value): (name, value) for name, value in reversed(LISTED.items())}.values()
    if is_checked(name, value)
}


def sections(text: str) -> dict[str, str]:
    return {title: body.strip("\n") for title, body in SECTION.findall(text)}


def names_in(section: str) -> list[str]:
    """Names of parameters: those before the colon, or alone, of the lines that are not indented."""
    heads = [line.partition(" :")[0] for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def examples(value: Any) -> Iterator[str]:
    """The lines of examples in the docstrings of a function, or of a class, its bases and all their methods."""
    found = [value]
    if inspect.isclass(value):
        found = [base for base in value.__mro__ if base.__module__.startswith("fastcnn")]
        found += [member for base in found for member in vars(base).values()]
    for part in found:
        yield from re.findall(r"(?m)^\s*(?:>>>|\.\.\.) .*$", getattr(part, "__doc__", None) or "")


def returns_something(function: Callable[..., Any]) -> bool:
    return function.__annotations__.get("return") not in ("None", None)


def test_there_are_many():
    assert len(FUNCTIONS) > 225


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_are_those_of_the_signature(name):
    value, short = FUNCTIONS[name], name.rpartition(".")[2]
    if short not in TAKES_ANYTHING:
        expected = [parameter for parameter in inspect.signature(value).parameters if parameter not in ("self", "cls")]
        told = names_in(sections(docstring(name)).get("Parameters", ""))
        assert told == [] if set(expected) == NO_ARGUMENTS else told == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_returned_is_told(name):
    value = FUNCTIONS[name]
    told = sections(docstring(name))
    if not inspect.isclass(value):
        assert ("Returns" in told or "Yields" in told) == returns_something(value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_example_shows_it(name):
    """Its own, or one of its class in which its name is read."""
    value = FUNCTIONS[name]
    shown = list(examples(value))
    if owner := owner_of(name):
        word = re.compile(rf"\b{name.rpartition('.')[2]}\b")
        shown += [line for line in examples(owner) if word.search(line)]
    assert shown


def test_the_pages_of_the_api_list_everything_public():
    listed = set()
    for page in API.glob("*.md"):
        for module, table in re.findall(
            r"\.\. currentmodule:: ([\w.]+)\n\n\.\. autosummary::\n   :toctree: generated\n\n((?:   \w+\n)+)",
            page.read_text(encoding="utf-8"),
        ):
            listed |= {f"{module}.{name}" for name in table.split()}
    first = {}
    for name, value in public():
        if name.rpartition(".")[0] in MODULES and callable(value):
            first.setdefault(value, set()).add(name)
    for names in first.values():
        assert len(names & listed) == 1, names
    assert listed <= set().union(*first.values())
