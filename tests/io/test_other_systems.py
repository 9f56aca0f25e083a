"""Files on systems that lack what Linux has: stand-ins for Windows and older macOS, made by taking names away."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Imported before names are taken away: what other packages need is not at stake.
IMPORTS = "import fcntl, mmap, os, shutil, subprocess, sys, tempfile, threading, numpy as np\n"
WINDOWS = (
    IMPORTS
    + """
for name in ("preadv", "pread", "pwrite", "fstatvfs", "statvfs", "register_at_fork", "fork", "sched_getaffinity",
             "O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY"):
    delattr(os, name)
del mmap.MAP_PRIVATE, mmap.MAP_ANONYMOUS
sys.modules["fcntl"] = None
really_open, really_replace = os.open, os.replace

def open_files_alone(path, flags, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return really_open(path, flags, *rest, **more)

def replace_closed_files_alone(source, target):
    for number in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{number}") and os.path.samefile(f"/proc/self/fd/{number}", source):
            raise PermissionError(13, "The process cannot access the file", source)
    really_replace(source, target)

os.open, os.replace = open_files_alone, replace_closed_files_alone
"""
)
OLD_MACOS = IMPORTS + "del os.preadv, os.sched_getaffinity, os.O_DIRECTORY\n"
WORK = """
os.chdir(sys.argv[1])
import fastcnn as fc
from fastcnn.io._cache import PhotoCache

rng = np.random.default_rng(0)
model = fc.Sequential(fc.Conv2d(1, 8, 3), fc.ReLU(), fc.Flatten(), fc.Linear(8 * 36, 200), fc.ReLU(), fc.Linear(200, 2))
x, y = rng.random((32, 1, 8, 8), np.float32), np.arange(32) % 2
model.fit(x, y, epochs=1, seed=0, checkpoint="run")
for _ in range(2):  # the second one replaces the first
    model.save("net.safetensors")
loaded = fc.load("net.safetensors")
assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))
assert sorted(os.listdir()) == ["net.safetensors", "run"], os.listdir()
photos = [rng.integers(0, 256, (9, 7, 3), np.uint8) for _ in range(40)]
cache = PhotoCache(memory=0, disk=1 << 20)
threads = [threading.Thread(target=lambda: [cache.get(i, lambda: photos[i]) for i in range(40)]) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
def make():
    raise AssertionError("not kept")
assert all(np.array_equal(cache.get(i, make), photos[i]) for i in range(40))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins are made of what Linux has")
@pytest.mark.parametrize("system", [WINDOWS, OLD_MACOS], ids=["windows", "old-macos"])
def test_networks_train_and_stay_in_files(system, tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", system + WORK, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
