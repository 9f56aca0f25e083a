"""The commands of docs/distributed.md run, on two machines: namespaces, with the addresses that the page has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from links import Links
from pages import ROOT, blocks, commands, text_of
from PIL import Image

import fastcnn as fc

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

PAGE = text_of("docs/distributed.md")
CLUSTER, PHOTOS, TOKEN = (commands(block) for block in blocks(PAGE, "sh"))


class Machine:
    """A namespace with a shell, and a home that all machines share.

    Parameters
    ----------
    links : Links
    number : int
    folder : Path
        Where commands run.
    sockets : str
        Ray's own folder: sockets have short names.
    """

    def __init__(self, links, number, folder, sockets):
        self.links, self.number, self.folder = links, number, folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PATH": path,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": str(folder / "home"),
            "RAY_TMPDIR": sockets,
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def run(self, *lines):
        """What a script prints; it must succeed."""
        script = "\n".join(["set -e -o pipefail", *lines])
        result = subprocess.run(
            self.links.command(self.number, "bash", "-c", script),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        return result.stdout

    def end(self):
        """Kill what runs here."""
        for pid in self.links.processes(self.number):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def machines(tmp_path):
    (tmp_path / "home").mkdir()
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        links = Links(2)
        found = [Machine(links, number, tmp_path, sockets) for number, sockets in enumerate((one, other))]
        yield found
        for machine in reversed(found):
            machine.end()
        links.close()


def draw(folder, count, kind):
    """Write photos of two classes."""
    rng = np.random.default_rng(0)
    for name in ("daisies", "roses"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.{kind}")


def test_the_commands_of_the_page_run_on_two_machines(machines, tmp_path):
    import pyarrow.parquet  # Ray Data asks for it

    draw(tmp_path / "flowers", 8, "png")
    draw(tmp_path / "photos", 3, "jpg")
    draw(tmp_path / "scans", 2, "jpg")
    (tmp_path / "scans" / "page.jpg").symlink_to(ROOT / "examples" / "cat.png")
    first, second = machines
    head, node, train = CLUSTER
    assert TOKEN[-1] == head
    first.run(*TOKEN)
    second.run(TOKEN[1], node)
    first.run(TOKEN[1], train)
    assert fc.load(tmp_path / "flowers.safetensors").classes == ["daisies", "roses"]
    first.run(TOKEN[1], *PHOTOS)
    files = sorted((tmp_path / "answers").glob("*.parquet"))
    assert sum(pyarrow.parquet.read_table(file).num_rows for file in files) == 7
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 6
