"""The public names of fastcnn with their signatures, and what a change of one breaks.

Public is what `__all__` of the modules below names, and each of its classes' members without a leading underscore.
``python tests/public_surface.py > tests/public_surface_X.Y.Z.txt`` writes the list of a release.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

MODULES = (
    "fastcnn",
    "fastcnn.distributed",
    "fastcnn.explain",
    "fastcnn.functional",
    "fastcnn.layers",
    "fastcnn.serving",
    "fastcnn.training",
    "fastcnn.quantization",
    "fastcnn.zoo",
    "fastcnn.reference",
)
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NOTHING = inspect.Parameter.empty


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods, properties and fields of a class, also those that it inherits from another class of fastcnn."""
    own = [base for base in owner.__mro__ if base.__module__.startswith("fastcnn")]
    names = {name for base in own for name in [*vars(base), *getattr(base, "__annotations__", {})]}
    for name in sorted(name for name in names if not name.startswith("_")):
        member = next((vars(base)[name] for base in own if name in vars(base)), None)
        yield name, member.__func__ if isinstance(member, classmethod | staticmethod) else member


def public() -> Iterator[tuple[str, Any]]:
    """Every public name and what it is; the members of a class once, below its first name."""
    seen = set()
    for module in map(importlib.import_module, MODULES):
        for name in sorted(module.__all__):
            value = getattr(module, name)
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value) and value not in seen:
                seen.add(value)
                yield from ((f"{module.__name__}.{name}.{member}", it) for member, it in members(value))


def signature_of(value: Any) -> inspect.Signature | None:
    """Without annotations; defaults that are no literals are `...`; None of what is not called."""
    if not callable(value):
        return None
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:  # exceptions
        return None
    return inspect.Signature([p.replace(annotation=NOTHING, default=_plain(p.default)) for p in parameters])


def _plain(default: Any) -> Any:
    try:
        return default if default is NOTHING or ast.literal_eval(repr(default)) == default else ...
    except (ValueError, SyntaxError):
        return ...


def surface() -> dict[str, inspect.Signature | None]:
    """The signature of every public name, None of what is not called."""
    return {name: signature_of(value) for name, value in public()}


def as_text(listed: dict[str, inspect.Signature | None]) -> str:
    """A line for each name."""
    return "".join(f"{name}{str(told).replace('Ellipsis', '...') if told else ''}\n" for name, told in listed.items())


def from_text(text: str) -> dict[str, inspect.Signature | None]:
    """What `as_text` wrote."""
    listed: dict[str, inspect.Signature | None] = {}
    for line in text.splitlines():
        name, bracket, arguments = line.partition("(")
        names: dict[str, Any] = {}
        exec(f"def told({arguments or ')'}: pass", names)
        listed[name] = inspect.signature(names["told"]) if bracket else None
    return listed


def broken(before: inspect.Signature | None, after: inspect.Signature | None) -> str:
    """What a call as before would no longer find; empty where it still finds everything."""
    if before is None:
        return ""
    if after is None:
        return "is no longer called"
    old, new = list(before.parameters.values()), after.parameters
    for place, told in enumerate(old):
        now = new.get(told.name)
        if now is None:
            return f"{told.name} is gone"
        if told.kind in VARIADIC and now.kind != told.kind:
            return f"{told.name} takes one value only"
        if now.kind == inspect.Parameter.POSITIONAL_ONLY != told.kind:
            return f"{told.name} can no longer be named"
        if told.kind in POSITIONAL and (now.kind not in POSITIONAL or list(new).index(told.name) != place):
            return f"{told.name} is no longer in place {place}"
        if told.default != now.default and told.default is not NOTHING:
            return f"{told.name}={told.default!r} is now {now.default!r}"
    added = [now for name, now in new.items() if name not in before.parameters and now.kind not in VARIADIC]
    return ", ".join(f"{now.name} must be given" for now in added if now.default is NOTHING)


if __name__ == "__main__":
    print(as_text(surface()), end="")
