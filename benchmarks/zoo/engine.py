"""Runs one engine on one ONNX file in a process of its own: `engine.py ENGINE FILE`, on one thread.

The file's batch is beside it, FILE with the suffix .npy. The first line of the output is the prediction. After each
line of stdin the engine predicts for some time. It then prints the least processor time of a call in milliseconds, and
the peak of memory of the process in MiB.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
import worker  # noqa: E402

SECONDS, LEAST_CALLS = 0.2, 3


def engine(name: str, path: Path, x: np.ndarray) -> worker.Callable[[], np.ndarray]:
    """A function that predicts."""
    if name == "fastcnn":
        import fastcnn

        fastcnn.set_num_threads(1)
        model = fastcnn.load(path)
        return lambda: model(x)
    made: worker.Callable[[], np.ndarray] = getattr(worker, f"{name}_engine")(path, x, 1)
    return made


def main() -> None:
    name, path = sys.argv[1], Path(sys.argv[2])
    call = engine(name, path, np.load(path.with_suffix(".npy")))
    print(json.dumps(np.asarray(call()).tolist()), flush=True)
    for _ in sys.stdin:
        call()  # other engines have used the caches since the last line
        times: list[float] = []
        while len(times) < LEAST_CALLS or sum(times) < SECONDS:
            start = process_time()
            call()
            times.append(process_time() - start)
        print(json.dumps([1e3 * min(times), worker.peak_bytes() >> 20]), flush=True)


if __name__ == "__main__":
    main()
