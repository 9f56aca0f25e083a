"""Draws the README's picture: how many times longer the best other engine takes. It needs the extra `plot`.

python benchmarks/peers/run.py --batches 1,16 --json peers.json
python benchmarks/peers/draw.py peers.json docs/peers.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

SERIES = {(1, 1): "#3465a4", (1, 2): "#729fcf", (16, 1): "#4e9a06", (16, 2): "#8ae234"}  # by batch and threads


def draw(rows: list[dict], path: str) -> None:
    """Draw a group of bars for each network. At 1, the best of the other engines is as fast."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    measured = [key for key in SERIES if any((row["batch"], row["threads"]) == key for row in rows)]
    for i, (batch, threads) in enumerate(measured):
        colour = SERIES[batch, threads]
        ratios = {row["network"]: row["ratio"] for row in rows if (row["batch"], row["threads"]) == (batch, threads)}
        places = [networks.index(name) + 0.2 * (i - (len(measured) - 1) / 2) for name in ratios]
        axes.bar(
            places,
            ratios.values(),
            0.19,
            color=colour,
            label=f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}",
        )
    axes.axhline(1, color="#cc0000", linewidth=1, label="the best of the others")
    axes.set_xticks(range(len(networks)), networks, fontsize=8)
    others = " · ".join(engine for engine in rows[0]["ms"] if engine != "fastcnn")
    axes.set_ylabel("times faster", fontsize=9)
    axes.set_title(f"fastcnn beside the fastest of {others}", fontsize=9)
    axes.legend(fontsize=7, ncols=5, loc="upper right")
    axes.set_ylim(0, 1.2 * max(row["ratio"] for row in rows))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
