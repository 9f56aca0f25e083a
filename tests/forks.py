"""A process that forks while its threads are at work: ``python forks.py <scenario> <forks>``.

Each child does what the threads do, and must answer within a minute; it is killed by its alarm if it hangs. Run by
test_forks.py.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.training import folders
from fastcnn.training.data import Dataset
from fastcnn.training.loader import Batches

PATIENCE = 60
SHARED: dict[str, Any] = {}  # by the scenario's threads
IMAGES = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
LABELS = np.array([0, 1])


def eager(number, turn):
    """Operations on more shapes than plans are kept for."""
    x = np.full((1 + (turn + 25 * number) % 99, 3), -1.0, np.float32)
    assert not F.relu(x).any()


def models(number, turn):
    """One model called, with inputs of several sizes, and its layers assigned to."""
    if turn % 10 == 0:
        SHARED["it"].input_shape = (1, 28, 28)  # plans are compiled anew
    assert SHARED["it"](IMAGES[: 1 + turn % 2]).shape == (1 + turn % 2, 10)


def mixed(number, turn):
    """A network with steps in NumPy between the kernels."""
    if turn % 10 == 0:
        SHARED["it"].input_shape = (3, 8, 8)
    assert SHARED["it"](np.ones((2, 3, 8, 8), np.float32)).shape == (2, 4)


def building(number, turn):
    """Layers without a generator of their own, large enough to be met while they draw; parameters assigned."""
    layer = fc.Linear(300, 300)
    layer.bias = np.zeros(300)
    fc.layers.initial.generator_of(None).random(10)


def training(number, turn):
    """Trainers of models of their own, and one that all share."""
    trainer = SHARED["it"][number] if turn % 2 else SHARED["it"][0]
    loss = trainer.step(IMAGES, LABELS)
    assert np.isfinite(loss)
    if turn % 5 == 0:
        assert np.isfinite(trainer.model(IMAGES)).all()
        trainer.state_dict()


def loading(number, turn):
    """Photos read ahead by threads, decoded, and changed."""
    batches = Batches(Dataset(SHARED["it"], np.arange(8) % 2, np.arange(8)), 3, augment=fc.Augment(), workers=2)
    assert sum(len(batch.x) for batch in batches.epoch(turn)) == 8


def fitting(number, turn):
    """All of it: building, data, steps, evaluation."""
    model = fc.Sequential(fc.Flatten(), fc.Linear(28 * 28, 2))
    model.fit(IMAGES, LABELS, epochs=2, batch_size=1, workers=1, progress=False)
    assert model.evaluate(IMAGES, LABELS).accuracy >= 0


def beside_sklearn(number, turn):
    """Threads of OpenMP's are at work in the parent, ours in the children."""
    if os.getpid() == SHARED["parent"]:
        SHARED["cluster"]()
    assert SHARED["it"](IMAGES).shape == (2, 10)
    if turn % 2:
        assert np.isfinite(SHARED["trainer"].step(IMAGES, LABELS))


def answer(seed):
    """The same in every process."""
    model = fc.zoo.lenet(rng=seed)
    fc.Trainer(model, fc.SGD(1e-2)).step(IMAGES, LABELS)
    return model(IMAGES).tolist()


SCENARIOS = {f.__name__: f for f in (eager, models, mixed, building, training, loading, fitting, beside_sklearn)}


def prepare(name):
    """Make what the scenario's threads share."""
    if name == "models":
        SHARED["it"] = fc.zoo.lenet()
    if name == "mixed":
        from onnx_builders import transformer

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "transformer.onnx")
            path.write_bytes(transformer().SerializeToString())
            SHARED["it"] = fc.load(path)
    if name == "training":
        SHARED["it"] = [fc.Trainer(fc.zoo.lenet(rng=i), fc.SGD(1e-4)) for i in range(4)]
    if name == "beside_sklearn":
        from sklearn.cluster import KMeans

        points = np.random.default_rng(0).random((2000, 8))
        SHARED["cluster"] = lambda: KMeans(20, n_init=1, max_iter=5, random_state=0, tol=0).fit(points)
        SHARED["parent"], SHARED["it"] = os.getpid(), fc.zoo.lenet()
        SHARED["trainer"] = fc.Trainer(fc.zoo.lenet(), fc.SGD(1e-4))
        fc.set_num_threads(2)
    if name == "loading":
        from photos import encode, noise
        from PIL import Image

        content = encode(Image.fromarray(noise(20, 24, 3)), "PNG")
        SHARED["it"] = folders.PhotoSource([content] * 8, folders.preprocess_for((3, 16, 16)))


def main(name, forks):
    warnings.simplefilter("ignore")  # Python warns of forking beside threads
    fc.set_num_threads(1)
    sys.setswitchinterval(1e-4)
    prepare(name)
    scenario, stop, failures = SCENARIOS[name], threading.Event(), []

    def work(number):
        turn = 0
        try:
            while not stop.is_set():
                scenario(number, turn)
                turn += 1
        except BaseException as error:
            failures.append(error)

    scenario(0, 0)  # modules are imported by now
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    hangs = 0
    for turn in range(forks):
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            status = 1
            try:
                scenario(turn % 4, turn)
                scenario(turn % 4, turn + 1)
                status = 0
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        hangs += code == -signal.SIGALRM
        if code:
            failures.append(code)
    stop.set()
    for thread in threads:
        thread.join()
    print(f"{name}: {hangs} of {forks} hang; {failures}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
