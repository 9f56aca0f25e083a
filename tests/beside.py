"""A program that uses fastcnn and other libraries in turn and at once, and tells what it has seen as JSON.

    python beside.py LIBRARY[,LIBRARY] fastcnn|others

The second argument says who is imported first: whose OpenMP runtime is loaded first depends on it.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

THREADS, ROUNDS = 2, 8
Work = Callable[[], np.ndarray]


def sklearn() -> Work:
    from sklearn.cluster import KMeans

    points = np.random.default_rng(0).random((3000, 8))
    return lambda: KMeans(20, n_init=1, max_iter=20, random_state=0).fit_predict(points)


def torch() -> Work:
    import torch

    torch.set_num_threads(THREADS)
    layer, x = torch.nn.Conv2d(32, 32, 3), torch.ones(4, 32, 32, 32)
    return lambda: layer(x).detach().numpy()


def onnxruntime() -> Work:
    import onnxruntime

    import fastcnn

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        fastcnn.zoo.resnet20(rng=0).export_onnx(path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: np.ones((1, 3, 32, 32), np.float32)}
    return lambda: session.run(None, inputs)[0]


def own() -> Work:
    import fastcnn

    fastcnn.set_num_threads(THREADS)
    model = fastcnn.zoo.resnet20(rng=0)
    x = np.random.default_rng(0).random((4, 3, 32, 32), np.float32)
    return lambda: model(x)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def main(libraries: list[str], first: str) -> dict[str, object]:
    makers = {"fastcnn": own, **{name: globals()[name] for name in libraries}}
    order = sorted(makers, key=lambda name: (name == "fastcnn") != (first == "fastcnn"))
    works = {name: makers[name]() for name in order}
    predict = works.pop("fastcnn")
    for work in works.values():
        work()
    before = threads()
    expected = predict()
    added = threads() - before

    wrong = 0
    for _ in range(ROUNDS):
        for work in works.values():
            work()
        wrong += not np.array_equal(predict(), expected)

    def repeat(work: Work) -> None:
        for _ in range(ROUNDS):
            work()

    at_once = [threading.Thread(target=repeat, args=(work,)) for work in works.values()]
    for thread in at_once:
        thread.start()
    for _ in range(ROUNDS):
        wrong += not np.array_equal(predict(), expected)
    for thread in at_once:
        thread.join()
    settled = threads()
    for _ in range(ROUNDS):
        for work in (predict, *works.values()):
            work()
    grown = threads() - settled
    time.sleep(0.5)  # threads that have nothing to do may look for work a little longer
    start = time.process_time()
    time.sleep(1)
    idle = time.process_time() - start

    import threadpoolctl

    import fastcnn

    fastcnn.set_num_threads(None)
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        limited = fastcnn.get_num_threads()
    runtimes = sorted(set(re.findall(r"\S*/libgomp\S*", Path("/proc/self/maps").read_text())))
    return {
        "wrong results": wrong,
        "threads of fastcnn": added,
        "threads that later rounds add": grown,
        "seconds of a processor in an idle second": idle,
        "threads within a limit of 1": limited,
        "runtimes": runtimes,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1].split(","), sys.argv[2])))
