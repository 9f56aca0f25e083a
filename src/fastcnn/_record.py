"""Frozen dataclasses that importing does not wait for: their methods are shared instead of compiled for each class."""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

Kind = TypeVar("Kind")


def _set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(self.__dict__[name] for name in self.__dataclass_fields__)


def _equal(self: Any, other: Any) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _text(self: Any) -> str:
    pairs = zip(self.__dataclass_fields__, _values(self), strict=True)
    return f"{self.__class__.__qualname__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


def _initializer(kind: Any) -> Any:
    """The constructor of one class, by its fields."""
    fields = kind.__dataclass_fields__
    names, count = tuple(fields), len(fields)
    defaults = {name: field.default for name, field in fields.items() if field.default is not MISSING}
    factories = [(n, field.default_factory) for n, field in fields.items() if field.default_factory is not MISSING]

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        state = self.__dict__
        state.update(defaults)
        state.update(zip(names, values, strict=False))
        if len(values) > count or not named.keys() <= fields.keys() or named.keys() & names[: len(values)]:
            raise TypeError(f"{kind.__name__}: got {len(values)} values and {sorted(named)}, expected {names}")
        state.update(named)
        for name, factory in factories:
            if name not in state:
                state[name] = factory()
        if len(state) < count:
            raise TypeError(f"{kind.__name__}: {[name for name in names if name not in state]} are missing")

    return __init__


if TYPE_CHECKING:
    from dataclasses import field

    from typing_extensions import dataclass_transform

    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    def record(kind: type[Kind]) -> type[Kind]: ...

else:

    def record(kind: type[Kind]) -> type[Kind]:
        """As `dataclass(frozen=True)`, for classes that neither inherit fields nor need __post_init__.

        Examples
        --------
        >>> @record
        ... class Point:
        ...     x: int
        ...     y: int = 0
        >>> Point(1)
        Point(x=1, y=0)
        """
        kind = dataclass(init=False, repr=False, eq=False)(kind)
        kind.__init__ = _initializer(kind)
        kind.__setattr__, kind.__delattr__ = _set, _delete
        kind.__eq__, kind.__hash__, kind.__repr__ = _equal, _hash, _text
        return kind
