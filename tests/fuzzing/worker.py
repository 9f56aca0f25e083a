"""Applies a reader to one input after the other, in a process of its own whose memory is limited.

Run by harness.py, as `python -m fuzzing.worker TARGET BYTES`. An input comes on standard input behind its length, what
became of it leaves as a line of JSON. What a reader may raise is in targets.py; how long it may take, the harness
watches.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import time
import warnings
from typing import BinaryIO

from fuzzing.targets import Target, prepared

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")  # its shadow memory alone is beyond any limit


def _status(field: str) -> int:
    """A size in bytes that Linux tells of this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(field + ":"))


def measured(target: Target, content: bytes) -> dict[str, object]:
    """Read one input: how it ended, its seconds of processor time, and by how many bytes the process grew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the highest use of memory is counted anew
    before, start = _status("VmRSS"), time.process_time()
    try:
        target.read(content)
        ending, detail = "accepted", ""
    except MemoryError:
        ending, detail = "out of memory", ""
    except target.refusal as error:
        ending, detail = "refused", str(error)
    except Exception as error:
        ending, detail = "escaped", f"{type(error).__name__}: {error}"
    seconds = time.process_time() - start
    return {"ending": ending, "detail": detail[:500], "seconds": seconds, "grown": _status("VmHWM") - before}


def serve(name: str, memory: int, inputs: BinaryIO, answers: BinaryIO) -> None:
    """Read inputs until there are no more."""
    target = prepared(name)
    warnings.simplefilter("error")  # no input makes a reader warn
    if not SANITIZED:
        limit = _status("VmSize") + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while length := inputs.read(4):
        answer = measured(target, inputs.read(struct.unpack("<I", length)[0]))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints
    serve(sys.argv[1], int(sys.argv[2]), sys.stdin.buffer, answers)
