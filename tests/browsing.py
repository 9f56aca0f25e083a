"""A studio in a process of its own, and Debian's Chromium looking at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Studio", "browser_path", "drop", "make_patterns", "opened_browser"]

LONG = 120_000  # ms after which something hangs
NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str:
    """Where Chromium is. The tests of the browser fail without it: who asks for them wants them to run."""
    found = os.environ.get("FASTCNN_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "no Chromium: apt-get install chromium, or name one in FASTCNN_CHROMIUM"
    return found


class Studio:
    """`fastcnn studio` on a folder."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "fastcnn", "studio", str(folder), "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = ""
        while not (found := re.search(r"http://\S+", told)):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            told += line
        self.address = found[0]
        self.root = self.address.partition("?")[0]

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.terminate()
        _, told = self.process.communicate(timeout=LONG / 1000)
        assert error[0] is not None or "Traceback" not in told, told

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def opened_browser() -> Iterator[Any]:
    """Chromium, with a camera that shows a test picture."""
    from playwright.sync_api import sync_playwright

    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=[*sandbox, *camera])
        yield browser
        browser.close()


def drop(page: Any, target: Any, files: list[Path]) -> None:
    """Drop files or folders on an element, as the desktop does: the browser itself reads them."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + min(box["height"] / 2, 60)
    data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})
    session.detach()


def make_patterns(folder: Path, count: int) -> dict[str, list[Path]]:
    """Write photos of stripes and of dots, in colours that tell nothing."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Path]] = {"dots": [], "stripes": []}
    rows, columns = np.mgrid[:96, :96]
    for name, paths in found.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            width, shift = rng.integers(7, 12), rng.integers(0, 12, 2)
            if name == "stripes":
                ink = (columns + shift[0]) // width % 2
            else:
                across, down = (
                    (axis + by) % (2 * width) - width for axis, by in zip((rows, columns), shift, strict=True)
                )
                ink = across**2 + down**2 < (0.62 * width) ** 2
            paper, colour = rng.integers(0, 110, 3), rng.integers(140, 255, 3)
            pixels = np.where(ink[..., None], colour, paper) + rng.integers(-8, 9, (96, 96, 3))
            path = folder / name / f"{name}-{number}.jpg"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)
            paths.append(path)
    return found
