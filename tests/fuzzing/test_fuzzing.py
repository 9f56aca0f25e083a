"""No file crashes, hangs, exceeds its memory budget or raises anything undocumented: thousands of changed ones, and the
corpus that coverage-guided fuzzing has found."""

from __future__ import annotations

import pytest
from fuzzing.formats import inputs, kept
from fuzzing.harness import fuzz
from fuzzing.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_changed_files_keep_the_promises(target, budget, tmp_path):
    report = fuzz(target, inputs(target, 0, budget(20_000, 100_000)), tmp_path)
    assert not report.broken, report
    assert report.endings["accepted"] and report.endings["refused"], report


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_keeps_the_promises(target, tmp_path):
    files = kept(target)
    report = fuzz(target, (path.read_bytes() for path in files), tmp_path)
    assert files and not report.broken, report
