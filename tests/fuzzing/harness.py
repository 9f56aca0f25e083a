"""Feeds inputs to a worker process and tells which of them break a promise: the harness that every format uses.

No input may end the process, keep it longer than its time, or raise anything but what is documented. A worker that is
lost is replaced. What is read is in targets.py, what the inputs are in formats.py.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from fuzzing.targets import TARGETS

TESTS = Path(__file__).parents[1]
MOST_SECONDS = 10.0  # of processor time
HANG_SECONDS = 60.0  # tells a process that waits for ever from one on a busy machine


@dataclass(frozen=True)
class Outcome:
    """What became of an input: accepted, refused, out of memory, escaped, hung or killed."""

    ending: str
    detail: str = ""
    seconds: float = 0.0
    grown: int = 0


@dataclass
class Report:
    """All outcomes of a run."""

    endings: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


class Worker:
    """A process that reads inputs for one target; a context manager."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FASTCNN_NUM_THREADS": "2"}
            command = [sys.executable, "-m", "fuzzing.worker", self._target, str(TARGETS[self._target].address_space)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def run(self, content: bytes) -> Outcome:
        """What becomes of one input."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(struct.pack("<I", len(content)) + content)
            process.stdin.flush()
        except BrokenPipeError:
            return self._lost()
        if not select.select([process.stdout], [], [], HANG_SECONDS)[0]:
            self._end()
            return Outcome("hung", f"no answer within {HANG_SECONDS} seconds")
        line = process.stdout.readline()
        return Outcome(**json.loads(line)) if line else self._lost()

    def _lost(self) -> Outcome:
        process, self._process = self._process, None
        assert process is not None
        process.communicate()
        code = process.returncode
        return Outcome("killed", signal.Signals(-code).name if code < 0 else f"exit status {code}")


def broken_promise(target: str, outcome: Outcome) -> str:
    """Which promise an outcome breaks; empty if none."""
    if outcome.ending in ("escaped", "hung", "killed"):
        return f"{outcome.ending}: {outcome.detail}"
    if outcome.ending == "out of memory" and not TARGETS[target].may_run_out:
        return "asked for more memory than its budget"
    if outcome.seconds > MOST_SECONDS:
        return f"took {outcome.seconds:.1f} seconds of processor time, expected at most {MOST_SECONDS}"
    if outcome.grown > TARGETS[target].resident:
        return f"took {outcome.grown} bytes, expected at most {TARGETS[target].resident}"
    return ""


def fuzz(target: str, inputs: Iterable[bytes], folder: Path) -> Report:
    """Read all inputs; those that break a promise are kept in `folder`."""
    report = Report()
    with Worker(target) as worker:
        for i, content in enumerate(inputs):
            outcome = worker.run(content)
            if outcome.ending == "hung":  # a machine may stand still, an input hangs each time
                outcome = worker.run(content)
            report.endings[outcome.ending] += 1
            report.slowest = max(report.slowest, outcome.seconds)
            report.largest = max(report.largest, outcome.grown)
            if broken := broken_promise(target, outcome):
                path = folder / f"{target}-{i}"
                path.write_bytes(content)
                report.broken.append(f"{path}: {broken}")
    return report
