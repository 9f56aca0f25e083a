"""A server that loads a model, computes, and then forks its workers: each of them answers with the parent's bits."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastcnn as fc

WORKERS, REQUESTS, PATIENCE = 2, 100, 120
IMAGE = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)

APPLICATION = """
import os
import numpy as np
import fastcnn as fc
fc.set_num_threads(2)
model = fc.zoo.resnet20(in_channels=1, rng=0)
model(np.ones((8, 1, 28, 28), np.float32))  # on two threads, which the workers do not have

def application(environ, start_response):
    image = np.frombuffer(environ["wsgi.input"].read(), np.float32).reshape(1, 1, 28, 28)
    answer = model(image).tobytes()
    start_response("200 OK", [("Content-Length", str(len(answer))), ("Worker", str(os.getpid()))])
    return [answer]
"""


def start(folder) -> tuple[subprocess.Popen[str], int]:
    """The server, and the port that it has found."""
    (folder / "served.py").write_text(APPLICATION)
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "served:application", "--preload"]
    command += ["--workers", str(WORKERS), "--bind", "127.0.0.1:0", "--timeout", str(PATIENCE)]
    paths = os.pathsep.join([str(folder), *sys.path])
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    log = []
    for line in server.stderr:
        log.append(line)
        if found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line):
            return server, int(found[1])
    raise AssertionError("".join(log))


def ask(port: int) -> tuple[bytes, str]:
    """An answer, and which worker has given it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", "/", IMAGE.tobytes())
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200, answer
    return answer, response.headers["Worker"]


def test_workers_forked_from_a_server_that_has_computed(tmp_path):
    expected = fc.zoo.resnet20(in_channels=1, rng=0)(IMAGE).tobytes()
    server, port = start(tmp_path)
    try:
        workers: set[str] = set()
        until = time.monotonic() + PATIENCE
        with ThreadPoolExecutor(4) as pool:
            while not workers or len(workers) < WORKERS and time.monotonic() < until:
                for answer, worker in pool.map(ask, [port] * REQUESTS):
                    assert answer == expected
                    workers.add(worker)
        assert len(workers) == WORKERS and str(server.pid) not in workers
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.communicate()
