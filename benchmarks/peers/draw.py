"""Draws the README's picture: how many times longer the best other engine takes. It needs the extra `plot`.

Of rows of several precisions, the fastest of fastcnn stands beside the fastest of the others.

python benchmarks/peers/run.py --batches 1,16 --precision f32,bf16,int8 --json peers.json
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


def fastest(rows: list[dict]) -> list[dict]:
    """Return a row for each network, batch and number of threads: the fastest precision on each side."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["batch"], row["threads"]), []).append(row)
    result = []
    for group in groups.values():
        ours = min(group, key=lambda row: row["ms"]["fastcnn"])
        others = {}
        for row in group:
            for engine, time in row["ms"].items():
                if engine != "fastcnn":
                    others[engine] = min(time, others.get(engine, time))
        ms = {"fastcnn": ours["ms"]["fastcnn"], **others}
        ratio = min(others.values()) / ms["fastcnn"]
        result.append({**ours, "ms": ms, "ratio": ratio, "precision": ours.get("precision", "f32")})
    return result


def draw(rows: list[dict], path: str) -> None:
    """Draw a group of bars for each network. At 1, the best of the other engines is as fast."""
    is_of_several = len({row.get("precision") for row in rows}) > 1
    rows = fastest(rows)
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    measured = [key for key in SERIES if any((row["batch"], row["threads"]) == key for row in rows)]
    for i, (batch, threads) in enumerate(measured):
        colour = SERIES[batch, threads]
        own = [row for row in rows if (row["batch"], row["threads"]) == (batch, threads)]
        ratios = {row["network"]: row["ratio"] for row in own}
        places = [networks.index(name) + 0.2 * (i - (len(measured) - 1) / 2) for name in ratios]
        if is_of_several:
            for place, row in zip(places, own, strict=True):
                axes.text(place, row["ratio"], row["precision"], ha="center", va="bottom", fontsize=5, rotation=90)
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
    what = "the fastest precision of each" if is_of_several else rows[0]["precision"]
    axes.set_title(f"fastcnn beside the fastest of {others}: {what}", fontsize=9)
    axes.legend(fontsize=7, ncols=5, loc="upper right")
    axes.set_ylim(0, 1.2 * max(row["ratio"] for row in rows))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
