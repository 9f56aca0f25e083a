"""The team of threads (csrc/team.c) under sanitizers: random jobs of many callers, late lanes, refused threads.

Threads sleep on futexes here, and on a condition as on systems without these.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SANITIZERS = ("thread", "address,undefined")
# The sanitizer of threads knows no address space as spread out as recent kernels make it.
WITHOUT_RANDOM_ADDRESSES = ["setarch", "-R"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    return subprocess.run(command, capture_output=True, text=True, env={**own, **environment}, timeout=3000)


def compiled(sanitizer: str, source: Path, program: Path, *more: str) -> Path:
    flags = [*more, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-pthread", f"-fsanitize={sanitizer}"]
    result = run("gcc", *flags, f"-I{ROOT / 'csrc'}", "-fno-sanitize-recover=all", str(source), "-o", str(program))
    assert result.returncode == 0, result.stderr
    return program


def stress(program: Path, callers: int, jobs: int, seed: int, seconds: int = 1200) -> subprocess.CompletedProcess[str]:
    """Run jobs; a program that hangs ends with a status of its own."""
    numbers = map(str, (callers, jobs, seed))
    limited = ["timeout", str(seconds), *WITHOUT_RANDOM_ADDRESSES]
    return run(*limited, str(program), *numbers, TSAN_OPTIONS="halt_on_error=1")


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("sleep", [(), ("-DFC_NO_FUTEX",)], ids=["futex", "condition"])
def test_random_jobs_have_neither_races_nor_lost_pieces(sanitizer, sleep, budget, tmp_path):
    program = compiled(sanitizer, ROOT / "tests" / "team_stress.c", tmp_path / "stress", *sleep)
    for seed in range(budget(1, 40)):
        for callers in (1, 3, 8):
            result = stress(program, callers, budget(60, 1000) // callers, seed)
            assert result.returncode == 0, result.stderr


def test_a_caller_alone_has_all_threads(tmp_path):
    """Also after several have called at once, whose teams had to share the processors."""
    program = compiled("thread", ROOT / "tests" / "team_growth.c", tmp_path / "growth")
    result = run(*WITHOUT_RANDOM_ADDRESSES, str(program), TSAN_OPTIONS="halt_on_error=1")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        ("&team->arrived, 1, memory_order_acq_rel", "&team->arrived, 1, memory_order_relaxed"),
        ("atomic_store(&team->stage, stage + 1)",
         "atomic_store_explicit(&team->stage, stage + 1, memory_order_relaxed)"),
        ("== stage &&\n           atomic_compare", "== stage ||\n           atomic_compare"),
    ],
)  # fmt: skip
def test_a_missing_order_is_seen(found, instead, tmp_path):
    """The program finds what it is for: with one line of team.c spoilt it fails."""
    source = (ROOT / "csrc" / "team.c").read_text()
    assert source.count(found) == 1
    (tmp_path / "team.c").write_text(source.replace(found, instead))
    text = (ROOT / "tests" / "team_stress.c").read_text().replace("../csrc/team.c", str(tmp_path / "team.c"))
    (tmp_path / "spoilt.c").write_text(text)
    program = compiled("thread", tmp_path / "spoilt.c", tmp_path / "stress")
    assert any(stress(program, 3, 60, seed, seconds=60).returncode for seed in range(5))
