"""What environment and system say: threads, processors, control groups, instruction set; asked when first needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from fastcnn.kernels import _cpu, environment

SHOW = "from fastcnn.kernels import _cpu; print(*_cpu.threads_and_source(), sep='|')"


def threads_with(**environment: str) -> list[str]:
    names = ("FASTCNN_NUM_THREADS", "OMP_NUM_THREADS")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    command = [sys.executable, "-c", SHOW]
    return (
        subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, check=True)
        .stdout.strip()
        .split("|")
    )


def test_environment_in_order_of_precedence():
    assert threads_with(FASTCNN_NUM_THREADS="3", OMP_NUM_THREADS="2") == ["3", "FASTCNN_NUM_THREADS"]
    assert threads_with(OMP_NUM_THREADS="2,1") == ["2", "OMP_NUM_THREADS"]
    assert int(threads_with()[0]) <= len(os.sched_getaffinity(0))


WHEN_FIRST_USED = """
import os, warnings
from fastcnn.kernels import _cpu
import fastcnn as fc
warnings.simplefilter("error")
for name, value in {environment!r}.items():
    os.environ[name] = value
told = []
for _ in range(3):
    for use in (fc.get_num_threads, fc.show_config, lambda: fc.Sequential(fc.Linear(4, 2))([[1, 2, 3, 4]])):
        try:
            use()
        except fc.FastcnnWarning as warning:
            told.append(str(warning))
print("told", told, fc.get_num_threads(), _cpu.isa(), sep="|")
"""


def when_first_used(**environment: str) -> tuple[list[str], int, str]:
    """The warnings, threads and instruction set of a process that sets variables after it has imported fastcnn."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("FASTCNN_", "OMP_"))}
    command = [sys.executable, "-c", WHEN_FIRST_USED.format(environment=environment)]
    answer = subprocess.run(command, capture_output=True, text=True, env=clean, check=True).stdout
    told, threads, isa = answer.strip().rpartition("told|")[2].split("|")
    return ast.literal_eval(told), int(threads), isa


def test_the_environment_is_read_when_first_used():
    assert when_first_used(FASTCNN_NUM_THREADS="7", FASTCNN_ISA="generic") == ([], 7, "generic")
    assert when_first_used(OMP_NUM_THREADS="6")[:2] == ([], 6)


def test_bad_variables_are_warned_about_once():
    told, threads, isa = when_first_used(FASTCNN_NUM_THREADS="many", OMP_NUM_THREADS="0", FASTCNN_ISA="avx9")
    assert sorted(told) == [
        f"FASTCNN_ISA='avx9', expected one of {', '.join(_cpu.isa_names())}: it is not used",
        "FASTCNN_NUM_THREADS='many', expected a number from 1 to 1024: it is not used; "
        "OMP_NUM_THREADS='0', expected a number from 1 to 1024: it is not used",
    ]
    assert 1 <= threads <= len(os.sched_getaffinity(0)) and isa == _cpu.available_isas()[0]


@pytest.mark.parametrize("name", ["FASTCNN_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("bad", ["many", "²", "-1", "0", "1025", "2.0", " ", "9" * 99])
def test_what_is_no_number_of_threads(name, bad, monkeypatch):
    monkeypatch.setenv(name, bad)
    refused: list[str] = []
    assert dict(environment.environment_numbers(refused))[name] is None
    assert refused == [f"{name}={bad[:40]!r}, expected a number from 1 to 1024: it is not used"]


def test_an_instruction_set_that_the_processor_lacks_is_warned_about():
    for isa in set(_cpu.isa_names()) - set(_cpu.available_isas()):
        told, _, used = when_first_used(FASTCNN_ISA=isa)
        assert (told[0].startswith(f"FASTCNN_ISA={isa!r}, but this processor"), used) == (
            True,
            _cpu.available_isas()[0],
        )


@pytest.fixture
def system(tmp_path, monkeypatch):
    """system(groups, files): a folder in the place of the system's, whose control groups and quotas these are."""

    def make(groups: str, files: dict[str, str]) -> str:
        for name, text in {"proc/self/cgroup": groups, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(environment, "_ROOT", f"{tmp_path}/")
        return f"{tmp_path}/sys/fs/cgroup"

    return make


GROUPS = "sys/fs/cgroup"
NESTED = {
    f"{GROUPS}/cpu.max": "max 100000",
    f"{GROUPS}/a/cpu.max": "150000 100000",
    f"{GROUPS}/a/b/cpu.max": "800000 9",
}
OLD = {
    f"{GROUPS}/cpu/{folder}cpu.cfs_{name}_us": value
    for folder, quota in {"": "-1", "a/": "300000", "a/b/": "-1"}.items()
    for name, value in {"quota": quota, "period": "100000"}.items()
}


@pytest.mark.parametrize(
    ("groups", "files", "quota", "folder"),
    [
        ("0::/a/b\n", NESTED, 2, "/a"),
        ("0::/a/b\n", {**NESTED, f"{GROUPS}/a/b/cpu.max": "50000 100000"}, 1, "/a/b"),
        ("0::/elsewhere\n", {**NESTED, f"{GROUPS}/cpu.max": "400000 100000"}, 4, ""),
        ("5:memory:/x\n3:cpu,cpuacct:/a/b\n1:name=systemd:/\n", OLD, 3, "/cpu/a"),
        ("0::/a\n3:cpu:/a\n", {**NESTED, **OLD}, 2, "/a"),
    ],
    ids=["nested", "the innermost", "a container's", "version 1", "both versions"],
)
def test_strictest_quota_of_nested_control_groups_holds(groups, files, quota, folder, system):
    """A control group has what all above it leave."""
    root = system(groups, files)
    assert environment._quota() == (quota, root + folder)


@pytest.mark.parametrize(
    "files", [{}, {f"{GROUPS}/cpu.max": ""}, {f"{GROUPS}/cpu.max": "max 100000"}, {f"{GROUPS}/cpu.max": "many 0"}]
)
def test_without_a_quota_there_is_none(files, system):
    system("0::/a\n", files)
    assert environment._quota() is None


def test_the_smaller_of_quota_and_processors_counts(system, monkeypatch):
    folder = system("0::/a\n", {f"{GROUPS}/a/cpu.max": "100000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    quota, processors = f"quota of the control group {folder}/a", "processors this process may run on"
    assert environment.environment_numbers([])[2:] == [(quota, 1), (processors, 3)]
    system("0::/a\n", {f"{GROUPS}/a/cpu.max": "400000 100000"})
    assert environment.environment_numbers([])[2:] == [(processors, 3), (quota, 4)]


def shown(**environment: str) -> dict[str, str]:
    """What `show_config` prints in a process of its own, by topic."""
    command = [sys.executable, "-c", "import fastcnn; fastcnn.show_config()"]
    answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    return dict(line.split(": ", 1) for line in answer.stdout.splitlines())


def test_configuration_says_where_each_number_comes_from():
    topics = shown(FASTCNN_NUM_THREADS="3", OMP_NUM_THREADS="5", OMP_THREAD_LIMIT="2", FASTCNN_ISA="generic")
    assert topics["threads"] == "2 (limit of the OpenMP runtime)"
    numbers = dict(number.rsplit(": ", 1) for number in topics["threads, the strongest first"].split("; "))
    assert list(numbers.items())[:4] == [
        ("num_threads context", "says nothing"),
        ("set_num_threads", "says nothing"),
        ("FASTCNN_NUM_THREADS", "3"),
        ("OMP_NUM_THREADS", "5"),
    ]
    assert numbers["processors this process may run on"] == str(len(os.sched_getaffinity(0)))
    assert numbers["limit of the OpenMP runtime"] == "2"
    assert topics["instruction set"].startswith("generic (FASTCNN_ISA; ")
    assert shown(FASTCNN_ISA="")["instruction set"].startswith(f"{_cpu.available_isas()[0]} (the fastest usable one; ")
