"""The page of promises names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from sanitize import FUZZERS, TESTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"tests/[\w/]*\w(?:\.py)?", PAGE))
    assert len(named) > 20
    for path in [*named, *TESTS, *FUZZERS]:
        assert (ROOT / path).exists(), path


def test_every_promise_has_a_test():
    rows = [row for row in PAGE.splitlines() if row.startswith("|") and not row.startswith(("| promise", "|---"))]
    assert len(rows) > 20
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row)) == 6 and "tests/" in row, row
