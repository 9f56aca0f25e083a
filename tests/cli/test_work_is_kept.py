"""`fastcnn train` ends at any moment, by SIGKILL, Ctrl-C or a full disk, and no work of before is lost.

All of the command counts: its start, reading photos, epochs, writing the model and its picture.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from photo_folders import make_photos, train

import fastcnn
from fastcnn.training.checkpoints import read_checkpoint

EPOCHS = 6


def start(folder, *arguments):
    """Begin to train, or go on."""
    files = ["--checkpoint", str(folder / "run"), "--resume", "--plot", str(folder / "c.png"), *arguments]
    command = [sys.executable, "-m", "fastcnn", *train(folder.parent / "photos", folder / "m", *files, epochs=EPOCHS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("m", "c.png")}


OLD = {"m": b"yesterday's model", "c.png": b"yesterday's picture"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of photos, how long a run takes, and what it writes."""
    root = tmp_path_factory.mktemp("kept")
    make_photos(root / "photos", 20)
    (root / "whole").mkdir()
    began = time.monotonic()
    with start(root / "whole") as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return root, time.monotonic() - began, contents(root / "whole")


def kill(process):
    process.send_signal(signal.SIGKILL)
    return {-signal.SIGKILL}


def interrupt(process):
    process.send_signal(signal.SIGINT)
    return {130, -signal.SIGINT}  # the second where Python does not listen yet


def fill_the_disk(process):
    """Let no file grow beyond what a part of a checkpoint takes."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    return {2}


def has_begun(err):
    """Whether the command had begun when it was stopped: before, Python itself shows where it was."""
    return "Traceback" not in err or re.search(r'cli/__init__\.py", line \d+, in (?!<module>)|photos to learn', err)


def begun(path):
    """Where a checkpoint has come to."""
    run = read_checkpoint(path).run if path.exists() else {"epoch": 0, "step": 0}
    return run["epoch"], run["step"]


@pytest.mark.parametrize("end", [kill, interrupt, fill_the_disk])
def test_old_files_or_complete_new_ones_are_there(end, runs, budget):
    """And whoever goes on from the checkpoint writes the same bytes as a run that nobody has stopped."""
    root, seconds, new = runs
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    folder, ended, rounds = root, 0, 0
    while ended < budget(3, 100) or folder != root:
        if folder == root:  # once more from the start
            rounds += 1
            folder = root / f"{end.__name__}{rounds}"
            folder.mkdir()
            for name, content in OLD.items():
                (folder / name).write_bytes(content)
        before, stood = begun(folder / "run"), contents(folder)
        with start(folder) as process:
            codes = {0}
            if ended < budget(3, 100):
                time.sleep(rng.uniform(0, seconds))
                if process.poll() is None:
                    codes |= end(process)
                    ended += 1
            _, err = process.communicate(timeout=300)
        if end is not interrupt or has_begun(err):
            assert process.returncode in codes and "Traceback" not in err, err
        assert begun(folder / "run") >= before
        for name, content in contents(folder).items():
            assert content in (stood[name], new[name]), name
        for beside in folder.glob("m-interrupted*"):
            assert fastcnn.load(beside).classes == ["left side", "right side"]
            beside.unlink()
        if process.returncode == 0:
            assert contents(folder) == new and {path.name for path in folder.iterdir()} == {*new, "run"}
            folder = root
