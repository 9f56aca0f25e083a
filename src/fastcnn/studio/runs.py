"""Trainings of a project: each is `fastcnn train` in a process of its own, with a folder of its own.

A run learns from a snapshot: hard links to the photos as they were when it began. Photos may then be moved while it
learns, and a run that was stopped goes on with what it began with. A killed server ends no training: a lock that the
process holds tells the next server that it is alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcnn._replace import replacing
from fastcnn._system import has_locks, lock
from fastcnn._web import Refused, inside, safe_name
from fastcnn.studio.listing import Listing
from fastcnn.studio.run_log import RunLog

__all__ = ["Run", "Runs"]

_NAME = re.compile(r"\d{3,6}")
_AT_ONCE = 4  # trainings
_CHECKPOINTS = 5  # seconds of work that a kill may cost; epochs of a last layer are shorter than writing


class Run:
    """One training.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.id = folder, folder.name
        self.settings: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        self.log = RunLog(folder / "log.jsonl")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    # -- its process ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the process, or let it go on from its last checkpoint."""
        with self._lock:
            if self.is_alive():
                is_ending = (self.folder / "stopped").exists()
                raise Refused(409, "run: is stopping still: try again" if is_ending else "run: is training already")
            try:
                descriptor = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            except FileNotFoundError:
                raise Refused(404, "run: was taken away") from None
            for name in ("stopped", "pid"):  # of the last process, whose number another may have by now
                (self.folder / name).unlink(missing_ok=True)
            try:
                if has_locks():
                    lock(descriptor, wait=False)
                self._process = self._started(descriptor)
            finally:
                os.close(descriptor)  # the process has it still
            (self.folder / "pid").write_text(str(self._process.pid), encoding="utf-8")

    def _started(self, descriptor: int) -> subprocess.Popen[bytes]:
        files = ["-o", "model.safetensors", "--checkpoint", "checkpoint", "--log", "log.jsonl", "--resume", "--json"]
        files += ["--checkpoint-seconds", f"{_CHECKPOINTS}", "--stop-file", "stopped"]
        command = [sys.executable, "-m", "fastcnn", "train", "photos", *files, *self.settings["arguments"]]
        with open(self.folder / "report.json", "wb") as report, open(self.folder / "messages", "wb") as messages:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=report,
                stderr=messages,
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                pass_fds=(descriptor,) if os.name == "posix" else (),
            )

    def is_alive(self) -> bool:
        """Whether its process runs, also where another server has started it."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return True
            if not has_locks():
                return False
            try:
                descriptor = os.open(self.folder / "lock", os.O_RDWR)
            except FileNotFoundError:
                return False
            try:
                lock(descriptor, wait=False)
            except OSError:
                return True
            finally:
                os.close(descriptor)
            return False

    def stop(self) -> None:
        """Let the training end at its next step, also one that has hardly begun; a second time, as by Ctrl-C."""
        with self._lock:
            if not self.is_alive():
                raise Refused(409, "run: is not training")
            asked = self.folder / "stopped"
            if not asked.exists():
                asked.touch()
                return
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                # The lock says that the process lives, so nobody else can have its number.
                os.kill(int((self.folder / "pid").read_text(encoding="utf-8")), signal.SIGINT)

    def move(self, target: Path) -> None:
        """Take its folder elsewhere, unless it is training."""
        with self._lock:
            if self.is_alive():
                raise Refused(409, "run: is training: stop it first")
            os.rename(self.folder, target)

    # -- what came of it ------------------------------------------------------------------------------

    @property
    def model_path(self) -> Path | None:
        """The model as the last training left it, if that has come so far."""
        with self._lock:
            self.log.read()
            name = Path(str(self.log.end.get("model", ""))).name
            path = self.folder / name
            return path if name and path.is_file() else None

    def summary(self) -> dict[str, Any]:
        """What the page shows of it."""
        with self._lock:
            is_alive = self.is_alive()  # before the log is read: what a process wrote last is in it
            self.log.read()
            log, status = self.log, self._status(is_alive)
            report = log.end.get("report", {})
            return {
                "id": self.id,
                **{name: self.settings[name] for name in ("name", "network", "created", "photos", "classes")},
                "status": status,
                "epoch": log.epoch,
                "epochs": log.epochs,
                "steps": log.steps,
                "step": log.step if is_alive else {},
                "walk": log.walk if is_alive else {},
                "history": log.history,
                "learns": len(log.photos.get("training", ())),
                "examines": len(log.photos.get("validation", ())),
                "accuracy": report.get("accuracy"),
                "loss": report.get("loss"),
                "message": self._message() if status == "failed" else "",
            }

    def _status(self, is_alive: bool) -> str:
        if is_alive:
            return "training"
        if self.log.end:
            return "stopped" if self.log.end.get("interrupted") else "done"
        was_stopped = (self.folder / "checkpoint").exists() or (self.folder / "stopped").exists()
        return "stopped" if was_stopped else "failed"

    def _message(self) -> str:
        try:
            text = (self.folder / "messages").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lines = [line for line in text.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("fastcnn train: ")]
        return "\n".join(lines[lines.index(told[-1]) :] if told else lines[-3:])[:2000].removeprefix("fastcnn train: ")


class Runs:
    """All trainings of a project.

    Parameters
    ----------
    folder : Path
        Where their folders are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._runs: dict[str, Run] = {}
        for path in sorted(folder.iterdir()):
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError, ValueError):  # a kill has left it half made
                    self._runs[path.name] = Run(path)

    def all(self) -> list[Run]:
        """Every run, the oldest first."""
        with self._lock:
            return list(self._runs.values())

    def __getitem__(self, key: str) -> Run:
        with self._lock:
            if key not in self._runs:
                raise Refused(404, "run: there is none of this number any more")
            return self._runs[key]

    def start(self, root: Path, listing: Listing, settings: Mapping[str, Any]) -> Run:
        """Begin a training with the photos as they are now.

        Parameters
        ----------
        root : Path
            Of the project.
        listing : Listing
        settings : mapping
            "network", a name or "auto"; "epochs", a number or None; "name", or "".
        """
        arguments = _arguments(settings)
        with self._lock:
            if sum(run.is_alive() for run in self._runs.values()) >= _AT_ONCE:
                raise Refused(409, f"train: {_AT_ONCE} runs are training already: stop one, or wait")
            key = f"{1 + max([0, *(int(path.name) for path in self._folder.iterdir() if _is_run(path))]):03}"
            folder = self._folder / key
            folder.mkdir()
            _snapshot(root, listing, folder / "photos")
            told = {
                "name": safe_name(settings["name"], "name") if settings.get("name") else f"Run {int(key)}",
                "network": settings.get("network", "auto"),
                "created": time.time(),
                "photos": len(listing.photos),
                "classes": [label for label, count in sorted(listing.counts.items()) if count],
                "arguments": arguments,
            }
            with replacing(folder / "run.json") as file:
                file.write(json.dumps(told).encode())
            run = self._runs[key] = Run(folder)
            run.begin()
            return run

    def remove(self, key: str, trash: Path) -> None:
        """Take a run away, which must not be training."""
        with self._lock:
            self[key].move(trash / f"run-{key}-{os.urandom(4).hex()}")
            del self._runs[key]


def _is_run(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name))


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    """The options of `fastcnn train` for what the page offers; the command's own defaults for the rest."""
    from fastcnn import zoo
    from fastcnn.zoo.pretrained import pretrained_names

    network, epochs = settings.get("network", "auto"), settings.get("epochs")
    found: list[str] = []
    if network in pretrained_names():
        found += ["--pretrained", network]
    elif network in zoo.names():
        found += ["--network", network]
    elif network != "auto":
        raise Refused(400, f"network {str(network)[:60]!r}: is not known")
    if epochs is not None:
        if not isinstance(epochs, int) or isinstance(epochs, bool) or not 1 <= epochs <= 10_000:
            raise Refused(400, "epochs: expected a whole number from 1 to 10000")
        found += ["--epochs", str(epochs)]
    return found


def _snapshot(root: Path, listing: Listing, folder: Path) -> None:
    """Link all photos of classes that have some; copy them where the disk has no links."""
    if len([count for count in listing.counts.values() if count]) < 2:
        raise Refused(400, "train: expected photos of two classes at least")
    for photo in listing.photos.values():
        parts: Sequence[str] = photo.path.split("/")
        source, target = inside(root, *parts), folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target, follow_symlinks=False)
