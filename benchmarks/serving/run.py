"""Load test of fastcnn.serving on loopback, beside ONNX Runtime in the same application and beside a run a request.

    python benchmarks/serving/run.py [--networks MobileNetV2] [--clients 1,8,64] [--seconds 10] [--soak 20000]

Each engine has a process; one is active at a time, in rounds. Clients send the next JPEG file when the last one is
answered. A row has answers a second, as the median of the rounds, and the 50th and 99th percentile of milliseconds. It
has the milliseconds of all cores that an answer takes, and those that asking takes, as clients are on the same machine.
An answer with another status or another best class than expected counts as lost. With --soak, as many requests go to
fastcnn; its memory after a tenth of them and at the end is told. Weights and classes are random.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from clients import Found, asked
from PIL import Image

import fastcnn as fc
from fastcnn._table import Columns
from fastcnn.io.image import Preprocess

NETWORKS = {"MobileNetV2": fc.zoo.mobilenet_v2, "EfficientNet-Lite0": fc.zoo.efficientnet_lite0, "LeNet": fc.zoo.lenet}
ENGINES = ("fastcnn", "onnxruntime", "onnxruntime, one session", "fastcnn, naive", "onnxruntime, naive")
HEADINGS = ("network", "clients", "engine", "a second", "p50 ms", "p99 ms", "CPU ms", "asking", "lost", "batches")
CAT = Path(__file__).parents[2] / "examples" / "cat.png"
SCALES = (1.0, 0.9, 0.8, 0.7)  # of the photo: each is another file


class Server:
    """The process of an engine."""

    def __init__(self, engine: str, path: Path, threads: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("engines.py")), engine, str(path), str(threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        port, self.sizes = self.process.stdout.readline().split()
        self.port = int(port)
        self.computed = 0.0  # seconds, for the row at hand

    def memory(self) -> int:
        """Return the bytes of memory that it has."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Return the seconds that it has computed, on all cores."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serving(engines: list[str], path: Path, threads: int) -> Iterator[dict[str, Server]]:
    servers: dict[str, Server] = {}
    try:
        for engine in engines:  # one after the other, so that none is measured while another one is
            servers[engine] = Server(engine, path, threads)
        yield servers
    finally:
        for server in servers.values():
            server.close()


def made(name: str, folder: Path) -> tuple[Path, list[bytes], list[int]]:
    """A network in an ONNX file, photos, and what it takes them for."""
    model = NETWORKS[name](rng=0)
    channels, size, _ = model.input_shape
    model.preprocess = Preprocess(size=size, mean=(127.0,) * channels, std=(128.0,) * channels)
    model.export_onnx(folder / f"{name}.onnx")
    photos = []
    for scale in SCALES:
        image = Image.open(CAT).convert("RGB")
        file = io.BytesIO()
        image.resize((round(image.width * scale), round(image.height * scale))).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    best = [int(model.predict_proba(model.preprocess(photo))[0].argmax()) for photo in photos]
    return folder / f"{name}.onnx", photos, best


def row_of(name: str, clients: int, engine: str, found: list[Found], server: Server) -> dict[str, object]:
    latencies = np.concatenate([one.latencies for one in found])
    return {
        "network": name,
        "clients": clients,
        "engine": engine,
        "a second": statistics.median(len(one.latencies) / one.seconds for one in found),
        "p50 ms": float(np.percentile(latencies, 50)) * 1e3,
        "p99 ms": float(np.percentile(latencies, 99)) * 1e3,
        "CPU ms": server.computed / len(latencies) * 1e3,
        "asking": sum(one.computed for one in found) / len(latencies) * 1e3,
        "lost": sum(one.wrong for one in found),
        "batches": server.sizes,
    }


def soaked(server: Server, photos: list[bytes], best: list[int], count: int) -> dict[str, object]:
    """Ask very often, and compare the memory with that after a tenth."""
    before = asked(server.port, photos, best, 64, float("inf"), count // 10)
    start = server.memory()
    after = asked(server.port, photos, best, 64, float("inf"), count - count // 10)
    return {
        "requests": len(before.latencies) + len(after.latencies),
        "lost": before.wrong + after.wrong,
        "MB before": start / 1e6,
        "MB after": server.memory() / 1e6,
    }


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="MobileNetV2,EfficientNet-Lite0", help=", ".join(NETWORKS))
    parser.add_argument("--engines", default=";".join(ENGINES), help="separated by ;")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--requests", type=int, default=1_000_000, help="of a turn at most")
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="requests to fastcnn after the table")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    engines = options.engines.split(";")
    columns = Columns((18, 7, 24, 8, 8, 8, 8, 8, 5, 14), left={0, 2, 9})
    print(columns.line(HEADINGS), flush=True)
    rows: list[dict[str, object]] = []
    soaks: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks.split(","):
            path, photos, best = made(name, Path(folder))
            with serving(engines, path, options.threads) as servers:
                for server in servers.values():  # the first requests compile and load
                    asked(server.port, photos, best, 8, 1.0, 64)
                for clients in map(int, options.clients.split(",")):
                    found: dict[str, list[Found]] = {engine: [] for engine in engines}
                    for server in servers.values():
                        server.computed = 0.0
                    for _ in range(options.rounds):
                        for engine, server in servers.items():
                            how = (clients, options.seconds, options.requests)
                            start = server.cpu()
                            found[engine].append(asked(server.port, photos, best, *how))
                            server.computed += server.cpu() - start
                    for engine in engines:
                        rows.append(row_of(name, clients, engine, found[engine], servers[engine]))
                        print(columns.line([_shown(rows[-1][key]) for key in HEADINGS]), flush=True)
                if options.soak and "fastcnn" in servers:
                    soaks.append({"network": name, **soaked(servers["fastcnn"], photos, best, options.soak)})
                    print("; ".join(f"{key} {_shown(value)}" for key, value in soaks[-1].items()), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, "soaks": soaks}, indent=2))
    return int(any(row["lost"] for row in [*rows, *soaks]))


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
