"""What the command line makes of its words: numbers within bounds, and what was meant by those it does not know."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable
from typing import Any, NoReturn

from fastcnn._names import meant, one_of

__all__ = ["Parser", "number_above", "number_from", "numbers", "share_of", "whole"]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are a line, with what was probably meant."""

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Return the options; `parse_args` would not know the options of the command that they belong to."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            parser = getattr(options, "parser", self)
            word = unknown[0].partition("=")[0]
            parser.error(f"unknown argument {word}{meant(word, parser._option_string_actions)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print a line, and how to get help; exit code 2."""
        self.exit(2, f"{self.prog}: {message}\n(help: {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}, {one_of(value, map(str, action.choices))}"
            )

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        return []  # no abbreviations: a new option would change what they stand for


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of an integer from `least` to `most`."""
    expected = f"expected a whole number from {least}" + (f" to {most}" if most is not None else "")

    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text[:40]}, {expected}")
        return number

    return read


def number_above(least: float) -> Callable[[str], float]:
    """Return the type of a number above `least`, which is finite."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text[:40]}, expected a number above {least:g}")
        return number

    return read


def number_from(least: float) -> Callable[[str], float]:
    """Return the type of a number that is at least `least`, and finite."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number < math.inf:
            raise argparse.ArgumentTypeError(f"{text[:40]}, expected a number, {least:g} or more")
        return number

    return read


def numbers(text: str) -> tuple[float, ...]:
    """Return numbers that are separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]}, expected numbers, separated by commas") from None


def share_of(given: str | os.PathLike[str]) -> float | None:
    """Return the share of the photos that --validation asks for, and None where it names a place with others."""
    try:
        share = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if not 0 < share < 1:
        raise ValueError(f"--validation {given}: expected a share between 0 and 1, or a folder or label file")
    return share
