"""How soon the studio answers, and how soon its page is painted.

    python benchmarks/bench_studio.py [--rounds 10] [--photos 1000]

"answers" is the time from the command to the page's first bytes, in a process of its own each time. "first paint" is
what Chromium measures from the beginning of a visit, in a context without a cache; it needs Playwright and Chromium, in
the path or in FASTCNN_CHROMIUM. Medians and the slowest, in seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

_PAINT = "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)[0] ?? null"


class Started:
    """A studio that was started, the address that it prints, and the seconds until it answered."""

    def __init__(self, folder: Path) -> None:
        start = perf_counter()
        command = [sys.executable, "-m", "fastcnn", "studio", str(folder), "--no-browser", "--port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        told = ""
        while not (found := re.search(r"http://\S+", told)):
            told += self._process.stdout.readline() or sys.exit("the studio has ended")
        self.address = found[0]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with opener.open(self.address) as answer:
            assert b"<title>" in answer.read()
        self.seconds = perf_counter() - start

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def painted(address: str, rounds: int) -> list[float]:
    """Return the seconds until the first paint, of visits to one studio."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("FASTCNN_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 860})
            page = context.new_page()
            page.goto(address)
            page.wait_for_function(f"({_PAINT}) !== null")
            found.append(page.evaluate(_PAINT) / 1e3)
            context.close()
        browser.close()
    return found


def made(folder: Path, count: int) -> Path:
    """A project of two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8)).save(path)
    return folder


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--photos", type=int, default=1000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as path:
        folder = made(Path(path) / "photos", options.photos)
        answers = []
        for _ in range(options.rounds):
            studio = Started(folder)
            answers.append(studio.seconds)
            studio.close()
        studio = Started(folder)
        try:
            paints = painted(studio.address, options.rounds)
        finally:
            studio.close()
    for name, found in (("answers", answers), ("first paint", paints)):
        print(f"{name:12} median {statistics.median(found):.2f}  slowest {max(found):.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
