"""Seeds and generators: everywhere an integer or a numpy.random.Generator, the rest is refused by name."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers
from fastcnn.training.data import Dataset, split
from fastcnn.training.loader import Batches

X, Y = np.zeros((4, 1, 8, 8), np.float32), np.array([0, 1, 0, 1])


def contains_itself():
    loop: list[object] = []
    loop.append(loop)
    return loop


class Hostile:
    def __index__(self):
        raise TypeError("no")

    def __repr__(self):
        raise RuntimeError("no")


ODD = [
    np.ones((1, 2)).view(np.matrix),
    np.arange(2).view(np.matrix),
    contains_itself(),
    {"a": 1},
    "seed",
    b"seed",
    1.5,
    np.float64(2),
    True,
    np.bool_(False),
    (1, 2),
    [3],
    np.array([1, 2]),
    np.arange(4).reshape(2, 2),
    object(),
    Hostile(),
    range(3),
    1j,
    np.random.SeedSequence(1),
    np.random.PCG64(1),
    np.array(["a"]),
    np.array(None),
    iter([1]),
    Ellipsis,
    type,
]
TAKE_GENERATORS = {  # and None
    "Linear": lambda rng: fc.Linear(1, 1, rng=rng),
    "Conv2d": lambda rng: fc.Conv2d(1, 1, 1, rng=rng),
    "MultiheadAttention": lambda rng: fc.MultiheadAttention(1, 1, rng=rng),
    "seeded": lambda rng: layers.seeded(rng).__enter__(),
    "generator_of": lambda rng: layers.initial.generator_of(rng),
    "lenet": lambda rng: fc.zoo.lenet(rng=rng),
    "build": lambda rng: fc.zoo.build("resnet20", rng=rng),
    "small_cnn": lambda rng: fc.zoo.small_cnn(rng=rng),
}
TAKE_SEEDS = {
    "manual_seed": layers.manual_seed,
    "Trainer": lambda seed: fc.Trainer(fc.Sequential(fc.Linear(1, 2)), fc.SGD(0.1), seed=seed),
    "fit": lambda seed: fc.Sequential(fc.Flatten(), fc.Linear(64, 2, rng=0)).fit(X, Y, epochs=0, seed=seed),
    "Batches": lambda seed: Batches(Dataset.of(X, Y), 2, seed=seed),
    "split": lambda seed: split(Y, 0.5, seed),
    "ImageClassifier": lambda seed: fc.ImageClassifier("auto", epochs=1, random_state=seed).fit(X, Y),
    "Augment": lambda rng: fc.Augment()(X[0], rng),
    "mix": lambda rng: fc.Augment(mixup=0.2).mix(X, np.eye(2, dtype=np.float32)[Y], rng),
}


@pytest.fixture(autouse=True)
def restored():
    yield
    layers.manual_seed(0)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix
@pytest.mark.parametrize("where", [*TAKE_GENERATORS, *TAKE_SEEDS])
def test_what_is_no_seed_is_named(where):
    take = {**TAKE_GENERATORS, **TAKE_SEEDS}[where]
    for odd in ODD:
        with pytest.raises(TypeError, match=r"(rng|seed|random_state)(: got \w+|=.+), expected .*integer >= 0"):
            take(odd)
    for number in (-1, -(2**200), 2**128):
        with pytest.raises(ValueError, match=r"(rng|seed|random_state): got (a negative integer|2\*\*128)"):
            take(number)


@pytest.mark.parametrize("where", [*TAKE_GENERATORS, *TAKE_SEEDS])
def test_seeds_are_integers_of_any_kind(where):
    take = {**TAKE_GENERATORS, **TAKE_SEEDS}[where]
    for seed in (0, 7, np.int64(7), np.uint8(7), np.array(7), 2**31, 2**63, 2**128 - 1):
        take(seed)


@pytest.mark.parametrize("where", TAKE_GENERATORS)
def test_generators_and_none(where):
    TAKE_GENERATORS[where](np.random.default_rng(1))
    TAKE_GENERATORS[where](None)


def test_random_state_as_scikit_learn_takes_it():
    for state in (None, np.random, np.random.RandomState(3)):
        fc.ImageClassifier("auto", epochs=1, random_state=state).fit(X, Y)


def test_layers_built_in_threads_have_weights_of_their_own():
    """No two are the same, and all are those that one thread builds."""

    def built():
        layers.manual_seed(3)
        return [fc.Linear(5, 5).weight.tobytes() for _ in range(40)]

    expected, found = built(), []
    layers.manual_seed(3)
    threads = [
        threading.Thread(target=lambda: found.extend(fc.Linear(5, 5).weight.tobytes() for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(expected) and len(set(found)) == 40
