"""Tests of weights that stay in their file until somebody needs them."""

from __future__ import annotations

import copy
import gc
import mmap
import os
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import Linear, Model, ReLU, Sequential, functional
from fastcnn.errors import ModelLoadError
from fastcnn.graph.stored import StoredArray
from fastcnn.io.weights import read_safetensors, write_safetensors

LARGE = (256, 1024)  # one megabyte


def network(seed: int = 0) -> Model:
    """Of one large array, and small ones."""
    rng = np.random.default_rng(seed)
    model = Sequential(Linear(LARGE[1], LARGE[0]), ReLU(), Linear(LARGE[0], 3))
    for layer in (model[0], model[2]):
        layer.weight, layer.bias = rng.normal(0, 0.05, layer.weight.shape), rng.normal(0, 1, layer.bias.shape)
    model.input_shape = (LARGE[1],)
    return model


def images(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (5, LARGE[1])).astype(np.float32)


@pytest.fixture
def path(tmp_path) -> Path:
    network().save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def stays_in_the_file(model: Model) -> list[str]:
    return [name for name, array in model._stored_state().items() if isinstance(array, StoredArray)]


def test_predictions_leave_large_weights_in_the_file(path):
    model = fastcnn.load(path)
    assert stays_in_the_file(model) == ["0.weight"]
    np.testing.assert_array_equal(model(images()), network()(images()))
    assert "262,400" in str(model.summary())
    assert stays_in_the_file(model) == ["0.weight"]


@pytest.mark.parametrize("look", [
    lambda model: getattr(model, "0").weight,
    lambda model: model.state_dict()["0.weight"],
    lambda model: dict(model.named_parameters())["0.weight"],
    lambda model: model.graph().constants["0.weight"],
], ids=["attribute", "state_dict", "named_parameters", "graph"])  # fmt: skip
def test_whoever_looks_gets_the_values_and_they_are_kept(path, look):
    model = fastcnn.load(path)
    weight = look(model)
    np.testing.assert_array_equal(weight, network()[0].weight)
    assert type(weight) is np.ndarray and weight.dtype == np.float32 and not weight.flags.writeable
    assert look(model) is weight and getattr(model, "0").weight is weight and not stays_in_the_file(model)
    assert model.graph().constants["0.weight"] is weight
    np.testing.assert_array_equal(model(images()), network()(images()))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_the_values(path, duplicate):
    twin = duplicate(fastcnn.load(path))
    path.unlink()
    assert not stays_in_the_file(twin) and not getattr(twin, "0").weight.flags.writeable
    np.testing.assert_array_equal(twin(images()), network()(images()))


def test_within_another_model(path):
    class Outer(Model):
        def __init__(self):
            self.inner = fastcnn.load(path)

        def forward(self, x):
            return functional.tanh(self.inner(x))

    outer = Outer()
    expected = functional.tanh(network()(images()))
    np.testing.assert_array_equal(outer(images()), expected)
    assert stays_in_the_file(outer) == ["inner.0.weight"]
    assert "inner.0.weight" in outer.graph((LARGE[1],)).constants
    np.testing.assert_array_equal(outer(images()), expected)


def test_new_values_take_the_place_of_those_in_the_file(path):
    model = fastcnn.load(path)
    model(images())
    getattr(model, "0").weight = network(7)[0].weight
    other = network()
    other[0].weight = network(7)[0].weight
    np.testing.assert_array_equal(model(images()), other(images()))
    model = fastcnn.load(path)
    model.load_state_dict(network(7).state_dict())
    np.testing.assert_array_equal(model(images()), network(7)(images()))


def test_training_goes_on_from_the_file(path):
    x, y = images(), np.arange(5) % 3
    loaded, built = fastcnn.load(path), network()
    losses = [fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.1)).step(x, y) for model in (loaded, built)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(getattr(loaded, "0").weight, built[0].weight)


def test_saved_over_its_own_file(path):
    model = fastcnn.load(path)
    model.save(path)
    np.testing.assert_array_equal(fastcnn.load(path)(images()), network()(images()))


def test_files_deleted_or_replaced_meanwhile_do_not_matter(path):
    first, second = fastcnn.load(path), fastcnn.load(path)
    network(7).save(path)
    np.testing.assert_array_equal(first(images()), network()(images()))
    path.unlink()
    np.testing.assert_array_equal(getattr(second, "0").weight, network()[0].weight)


@pytest.mark.parametrize("change", ["overwrite", "truncate", "grow"])
def test_files_written_over_are_noticed(path, change):
    model = fastcnn.load(path)
    content = path.read_bytes()
    os.utime(path, (1, 1))  # whatever the clock's grain
    model_before = fastcnn.load(path)
    with path.open("r+b") as file:
        if change == "overwrite":
            file.write(content)
        elif change == "truncate":
            file.truncate(len(content) // 2)
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\0")
    for one in (model, model_before):
        for use in (lambda one=one: one(images()), one.state_dict, lambda one=one: getattr(one, "0").weight):
            with pytest.raises(ModelLoadError, match=r"net\.safetensors: the file has changed since it was opened"):
                use()
    assert stays_in_the_file(model) == ["0.weight"]


def test_bfloat16_can_stay_and_other_types_are_read(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**15 - 2**8, LARGE).astype("<u2")
    header = f'{{"a": {{"dtype": "BF16", "shape": [{LARGE[0]}, {LARGE[1]}], "data_offsets": [0, {bits.nbytes}]}}}}'
    (tmp_path / "bf16").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bits.tobytes())
    array = read_safetensors(tmp_path / "bf16", stored=True)[0]["a"]
    assert isinstance(array, StoredArray) and array.shape == LARGE and array.nbytes == 4 * bits.size
    np.testing.assert_array_equal(np.asarray(array), (bits.astype(np.uint32) << 16).view(np.float32))

    large = np.arange(2 << 18, dtype=np.float64) % 2048
    write_safetensors(tmp_path / "f64", {"a": large, "b": large.astype(np.float16)})
    arrays = read_safetensors(tmp_path / "f64", stored=True)[0]
    for name, array in arrays.items():
        assert type(array) is np.ndarray, name
        np.testing.assert_array_equal(array, large if name == "a" else large.astype(np.float16))


def test_reading_anew_gives_memory_of_its_own(path):
    stored = read_safetensors(path, stored=True)[0]["0.weight"]
    first, second = np.array(stored), np.array(stored)
    first[...] = 0
    np.testing.assert_array_equal(second, network()[0].weight)
    assert np.asarray(stored, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="without a copy"):
        np.array(stored, copy=False)


def test_many_threads_read_at_once(path):
    expected = network()(images())
    for _ in range(10):
        model = fastcnn.load(path)
        results: list[np.ndarray] = []
        threads = [
            threading.Thread(target=lambda to, model=model: to.append(model(images())), args=[results])
            for _ in range(3)
        ]
        threads.append(threading.Thread(target=model.state_dict))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 3
        for result in results:
            np.testing.assert_array_equal(result, expected)


def test_files_are_closed_with_the_last_array_that_lies_in_them(path):
    def is_open() -> bool:
        gc.collect()
        links = (os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
        return str(path.resolve()) in links

    read_safetensors(path)
    assert not is_open()
    model = fastcnn.load(path)
    assert is_open()
    model.state_dict()
    assert not is_open()
    model = fastcnn.load(path)
    model(images())
    del model
    assert not is_open()


def test_no_memory(path, monkeypatch):
    model = fastcnn.load(path)

    def refuse(*arguments: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(MemoryError, match=f"{4 * LARGE[0] * LARGE[1]} bytes"):
        model(images())
    monkeypatch.undo()
    np.testing.assert_array_equal(model(images()), network()(images()))


def test_loading_and_predicting_hold_the_weights_once(tmp_path):
    model = Sequential(Linear(4096, 2048), ReLU(), Linear(2048, 2048), ReLU(), Linear(2048, 4))
    model.input_shape = (4096,)
    model.save(tmp_path / "net.safetensors")
    code = """
import sys
import numpy as np, fastcnn
from fastcnn.io import weights
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
fastcnn.Sequential(fastcnn.Linear(4, 4))(np.ones((1, 4)))
before = peak()
model = fastcnn.load(sys.argv[1])
loaded = peak()
model(np.ones((1, 4096), np.float32))
print(loaded - before, peak() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "net.safetensors")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    loaded, predicted = map(float, output.split())
    weights = sum(array.nbytes for array in model.state_dict().values()) / 2**20  # 48
    assert loaded < 5
    assert predicted < weights + 33 + 5  # the largest comes from the file while it is packed
