"""Draw the README's picture: `fastcnn bench` on one thread, as bars. Needs the extra `plot`.

    python benchmarks/draw.py docs/kernels.svg
"""

from __future__ import annotations

import json
import subprocess
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

ENGINES = (("fastcnn", "#3465a4"), ("NumPy im2col + matmul", "#babdb6"))


def measure() -> dict:
    """What `fastcnn bench` measures, on one thread."""
    command = [sys.executable, "-m", "fastcnn", "bench", "--json", "--threads", "1"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def draw(data: dict, path: str) -> None:
    """One pair of bars a layer: the algorithm that fastcnn chooses, and NumPy."""
    layers = list(dict.fromkeys(row["layer"] for row in data["rows"]))
    chosen, numpy = {}, {}
    for row in data["rows"]:
        if row["algorithm"] == "NumPy":
            numpy[row["layer"]] = row["gflops"]
        else:
            chosen.setdefault(row["layer"], row["gflops"])  # candidates come in the order of choice
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(layers) + 1.2), layout="constrained")
    places = range(len(layers))
    for shift, (values, (label, colour)) in zip((-0.2, 0.2), zip((chosen, numpy), ENGINES, strict=True), strict=True):
        axes.barh([p + shift for p in places], [values[layer] for layer in layers], 0.4, label=label, color=colour)
    axes.axvline(data["peak_gflops"], color="#cc0000", linewidth=1, label="measured multiply-add peak")
    axes.set_yticks(places, layers, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"GFLOP/s of an eager conv2d call, one thread, {data['isa']}")
    axes.legend(fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(measure(), sys.argv[1])
