"""A process that serves one network; run.py starts it, and reads the port that it prints.

    python benchmarks/serving/engines.py ENGINE NETWORK.onnx THREADS

Engines: "fastcnn" and "onnxruntime" stand behind the same application of fastcnn.serving, which gathers batches where
they pay, and runs them in lanes. "onnxruntime, one session" has a session with all threads for all lanes, as most
programs do. "fastcnn, naive" and "onnxruntime, naive" run each request by itself in a thread of Starlette's pool, as a
route that is a plain function does.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import fastcnn as fc
from fastcnn.io.image import Preprocess
from fastcnn.serving import app
from fastcnn.serving.server import bound, serve

LIMITS = {"queue": 4096, "timeout": 120.0, "max_batch": 32}


class Foreign(fc.Model):
    """A network in ONNX Runtime, under the methods that a service calls; a session for each number of threads."""

    def __init__(self, path: str, is_one: bool = False) -> None:
        self._path, self._is_one = path, is_one
        self._sessions: dict[int, Any] = {}
        self._making = threading.Lock()

    def _session(self, threads: int) -> Any:
        with self._making:
            if threads not in self._sessions:
                import onnxruntime

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                providers = ["CPUExecutionProvider"]
                self._sessions[threads] = onnxruntime.InferenceSession(self._path, options, providers=providers)
            return self._sessions[threads]

    def predict_proba(
        self, x: Any, batch_size: int = 32, *_: Any, num_threads: int | None = None, **__: Any
    ) -> np.ndarray:
        threads = fc.get_num_threads()
        session = self._session(threads if self._is_one else num_threads or threads)
        return fc.functional.softmax(session.run(None, {session.get_inputs()[0].name: np.asarray(x, np.float32)})[0], 1)


def loaded(engine: str, path: str, threads: int) -> fc.Model:
    fc.set_num_threads(threads)
    own = fc.load(path)
    if engine.startswith("fastcnn"):
        own.reproducible = True
        return own
    foreign = Foreign(path, engine.endswith("one session"))
    foreign.input_shape, foreign.preprocess = own.input_shape, own.preprocess
    return foreign


def naive(model: fc.Model) -> Starlette:
    preprocess = model.preprocess
    assert isinstance(preprocess, Preprocess)

    def answered(content: bytes) -> list[dict[str, Any]]:
        row = model.predict_proba(preprocess(content), 1)[0]
        return [{"index": one.index, "probability": one.probability} for one in model._most_probable(row, 5)]

    async def classify(request: Request) -> JSONResponse:
        found = await run_in_threadpool(answered, await request.body())
        return JSONResponse({"model": "naive", "results": [{"predictions": found}]})

    return Starlette(routes=[Route("/v1/classify", classify, methods=["POST"])])


def main(engine: str, path: str, threads: int) -> None:
    model = loaded(engine, path, threads)
    listener = bound("127.0.0.1", 0)
    if engine.endswith("naive"):
        model.predict_proba(np.zeros((1, *model.input_shape), np.float32))
        application: Any = naive(model)
        sizes = [1]
    else:
        application = app(model, threads=threads, reload_seconds=0, **LIMITS)
        sizes = application.service.models["model"].version.sizes
    print(listener.getsockname()[1], ",".join(map(str, sizes)), flush=True)
    if engine.endswith("naive"):
        uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False)).run([listener])
    else:
        serve(application, listener, 30)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
