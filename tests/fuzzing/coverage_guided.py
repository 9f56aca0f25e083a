"""Fuzzing that is guided by what inputs reach in the readers: `python tests/fuzzing/coverage_guided.py [TARGET ...]`.

Needs Atheris (`pip install atheris`). Begins with the seeds and the corpus, changes them as formats.py does, and keeps
what reaches new code; --keep makes the newest of it the corpus in tests/corpus, which the tests replay. The time and
memory of each input are measured, with the limits of targets.py. What breaks a promise is written to the folder that is
printed, and ends the run with exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
CORPUS_BYTES = 50_000  # of one target's corpus in the repository
MODULES = ("fastcnn.io.image", "fastcnn.io.torch_checkpoint", "fastcnn.io.weights", "fastcnn.loading",
           "fastcnn.ops.general", "fastcnn.compiler.mixed", "PIL.Image")  # fmt: skip
LARGEST_INPUT = 1 << 14
HANG_SECONDS = 300  # of an input; harness.py judges its processor time


def fuzz_here(target: str, options: list[str]) -> None:
    """Fuzz one target in this process, which does not return: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["fastcnn", "PIL"]):
        for module in MODULES:
            importlib.import_module(module)
    from fuzzing.formats import changed
    from fuzzing.harness import Outcome, broken_promise
    from fuzzing.targets import prepared
    from fuzzing.worker import measured

    reader = prepared(target)
    worst = {"seconds": 0.0, "grown": 0}

    def one(content: bytes) -> None:
        outcome = Outcome(**measured(reader, content))
        for name in worst:
            if getattr(outcome, name) > worst[name]:
                worst[name] = getattr(outcome, name)
                print(f"{target}: slowest {worst['seconds']:.3f} s, largest {worst['grown']} bytes", flush=True)
        if broken := broken_promise(target, outcome):
            raise AssertionError(f"{target}: {broken}")

    def change(content: bytes, most: int, seed: int) -> bytes:
        return changed(target, content, random.Random(seed))[:most]

    atheris.Setup([sys.argv[0], *options], one, custom_mutator=change)
    atheris.Fuzz()


def run(target: str, seconds: int, keep: bool) -> int:
    """Fuzz one target in a process of its own, and give its exit status."""
    from fuzzing.formats import CORPUS, kept, seeds

    folder = Path(tempfile.mkdtemp(prefix=f"fuzzing-{target}-"))
    for i, content in enumerate([*seeds(target), *(path.read_bytes() for path in kept(target))]):
        (folder / f"begin-{i}").write_bytes(content)
    print(f"{target}: {seconds} s, in {folder}", flush=True)
    limits = [f"-max_len={LARGEST_INPUT}", f"-timeout={HANG_SECONDS}", f"-artifact_prefix={folder}/found-"]
    command = [sys.executable, __file__, "--here", target]
    status = subprocess.run([*command, f"-max_total_time={seconds}", *limits, str(folder)]).returncode
    if keep and status == 0:
        keep_newest(folder, CORPUS / target)
    return status


def keep_newest(found: Path, corpus: Path) -> None:
    """Make what was found last the corpus, as much as there is room for: what others do not reach."""
    corpus.mkdir(parents=True, exist_ok=True)
    contents = [path.read_bytes() for path in sorted(found.iterdir(), key=lambda path: -path.stat().st_mtime_ns)
                if not path.name.startswith("begin-")]  # fmt: skip
    contents += [path.read_bytes() for path in corpus.iterdir()]
    for path in corpus.iterdir():
        path.unlink()
    room = CORPUS_BYTES
    for content in dict.fromkeys(contents):
        if len(content) <= room:
            (corpus / hashlib.sha256(content).hexdigest()[:12]).write_bytes(content)
            room -= len(content)


def main() -> int:
    if sys.argv[1:2] == ["--here"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
    from fuzzing.targets import TARGETS

    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of the readers of files.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--seconds", type=int, default=900, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add what was found to the corpus of the tests")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"TARGET {', '.join(unknown)}, expected some of {', '.join(TARGETS)}")
    return max(run(target, options.seconds, options.keep) != 0 for target in options.targets or TARGETS)


if __name__ == "__main__":
    sys.exit(main())
