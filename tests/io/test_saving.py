"""Saving safely: kills, full disks and failures at any moment leave a complete file, and nothing else for long."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastcnn import _replace
from fastcnn.io.weights import read_safetensors, write_safetensors

OLD, NEW = {"a": np.zeros(1000)}, {"a": np.ones(2000)}


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt(), MemoryError()])
def test_failures_leave_the_old_file_and_nothing_else(tmp_path, monkeypatch, function, error):
    path = tmp_path / "net"
    write_safetensors(path, OLD)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)) as caught:
            write_safetensors(path, NEW)
    assert not isinstance(error, OSError) or str(path) in str(caught.value)
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], OLD["a"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]
    write_safetensors(path, NEW)
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], NEW["a"])


def test_disk_without_room_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "net"
    write_safetensors(path, OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(OSError, match=re.escape(f"File too large: '{path}'")):
            write_safetensors(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], OLD["a"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]


def test_failure_of_the_last_flush_leaves_the_new_file(tmp_path, monkeypatch):
    path = tmp_path / "net"
    write_safetensors(path, OLD)
    flush = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "broken disk")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(OSError, match="broken disk"):
        write_safetensors(path, NEW)
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], NEW["a"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]


KILLS = """
import os, random, signal, sys, time
import numpy as np
from fastcnn.io.weights import read_safetensors, write_safetensors

def write(number):
    write_safetensors(sys.argv[1], {"a": np.full(100_000, number)}, {"number": str(number)})

rng = random.Random(19)
number = 0
write(number)
for _ in range(int(sys.argv[2])):
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        while True:
            number += 1
            write(number)
            os.write(writable, b".")
    os.close(writable)
    os.read(readable, 1)  # so that it is at work
    time.sleep(rng.random() / 20)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reported = number + 1 + len(os.read(readable, 1 << 16))
    os.close(readable)
    tensors, metadata = read_safetensors(sys.argv[1])
    number = int(metadata["number"])
    assert number in (reported, reported + 1) and (tensors["a"] == number).all()
    write(number)
    assert os.listdir(os.path.dirname(sys.argv[1])) == ["net"]
print(number)
"""


def test_kills_leave_a_complete_file_and_the_next_save_nothing_else(tmp_path, budget):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLS, str(tmp_path / "net"), str(budget(50, 1_000))]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 50


KILLED = """
import os, signal, sys
import numpy as np
from fastcnn import _replace
from fastcnn.io import weights

def killed(descriptor):
    print("written", flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "kill" else sys.stdin.read()

os.fsync = killed
weights.write_safetensors(sys.argv[1], {"a": np.zeros(1000)})
"""


def writer(path: Path, what: str) -> subprocess.Popen[str]:
    """A process that has written a temporary file; it is then killed, or waits."""
    command = [sys.executable, "-c", KILLED, str(path), what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "written\n"
    return process


def test_what_killed_writers_left_is_swept_up_and_nothing_else(tmp_path):
    path = tmp_path / "net"
    names = lambda: sorted(entry.name for entry in tmp_path.iterdir())  # noqa: E731
    write_safetensors(path, OLD)
    others = [".fastcnn-0.tmp", ".fastcnn-0123456789abcdeg.tmp", "fastcnn-0123456789abcdef.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"of somebody else")
    with writer(path, "kill") as dead:
        dead.communicate()
    assert len(names()) == 2 + len(others)
    with writer(tmp_path / "other", "wait") as alive:
        (live,) = [name for name in names() if re.fullmatch(r"\.fastcnn-[0-9a-f]{16}\.tmp", name)]
        write_safetensors(path, NEW)
        assert names() == sorted(["net", live, *others])
        alive.communicate("")
    assert names() == sorted(["net", "other", *others])
    np.testing.assert_array_equal(read_safetensors(tmp_path / "other")[0]["a"], OLD["a"])


def test_a_name_that_was_swept_up_before_it_was_locked_is_not_used(tmp_path, monkeypatch):
    lock, swept = _replace.lock, []

    def sweep_first(file, wait):
        if not swept and wait:
            swept.append(1)
            _replace._remove_leftovers(tmp_path)
        lock(file, wait)

    monkeypatch.setattr(_replace, "lock", sweep_first)
    write_safetensors(tmp_path / "net", NEW)
    assert swept and [entry.name for entry in tmp_path.iterdir()] == ["net"]


def test_permissions_and_links_are_kept(tmp_path):
    path, link = tmp_path / "net", tmp_path / "link"
    mask = os.umask(0o022)
    try:
        write_safetensors(path, OLD)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o640)
    link.symlink_to(path)
    write_safetensors(link, NEW)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], NEW["a"])


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "absent" / "net"))):
        write_safetensors(tmp_path / "absent" / "net", NEW)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "full").symlink_to("/dev/full")
    for place in (pipe, tmp_path, tmp_path / "full"):
        with pytest.raises(OSError, match="not a regular file"):
            write_safetensors(place, NEW)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and sorted(tmp_path.iterdir()) == [tmp_path / "full", pipe]
    with pytest.raises(NotADirectoryError):
        write_safetensors(pipe / "net", NEW)
    with pytest.raises(TypeError, match="write_safetensors: tensors: got int, expected a mapping"):
        write_safetensors(tmp_path / "net", 3)
    with pytest.raises(TypeError, match="write_safetensors: path: got int, expected a str"):
        write_safetensors(3, NEW)
