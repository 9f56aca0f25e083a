"""Models: compiled calls against float64, the cache of plans, predictions, summaries."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

from fastcnn import functional, num_threads, ops, plan_cache, zoo
from fastcnn.io.image import Preprocess
from fastcnn.kernels import _cpu
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Softmax,
)
from fastcnn.model import Model, Prediction
from fastcnn.sequential import Sequential

SHAPE = (3, 12, 10)
IMAGES = np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32)


class Residual(Layer):
    def __init__(self, channels: int) -> None:
        self.conv = Conv2d(channels, channels, 3, padding=1, rng=1)
        self.norm = BatchNorm2d(channels)
        self.norm.running_var = np.linspace(0.5, 2, channels)

    def forward(self, x):
        return functional.relu(x + self.norm(self.conv(x)))


class Net(Model):
    def __init__(self, classes: int = 4) -> None:
        self.stem = Sequential(Conv2d(3, 8, 3, 2, padding="same", rng=2), ReLU())
        self.block = Residual(8)
        self.pool = GlobalAvgPool2d()
        self.fc = Linear(8, classes, rng=3)
        self.input_shape = SHAPE

    def forward(self, x):
        x = self.block(self.stem(x))
        return self.fc(functional.flatten(self.pool(x)))


def reference(model: Model, x: np.ndarray) -> np.ndarray:
    """Evaluate a model's graph in float64, node by node."""
    graph = model.graph(x.shape[1:])
    (name,) = graph.inputs
    values: dict = {**graph.constants, name: x.astype(np.float64), "": None}
    for node in graph.nodes:
        values[node.output] = ops.get(node.op).reference(node.attrs, [values[i] for i in node.inputs])
    return values[graph.outputs[0]]


@pytest.fixture
def compilations(monkeypatch):
    """The input shapes that have been compiled so far."""
    shapes = []
    compile_network = plan_cache.compile_network

    def counting(graph, input_shapes, **settings):
        shapes.extend(input_shapes.values())
        return compile_network(graph, input_shapes, **settings)

    monkeypatch.setattr(plan_cache, "compile_network", counting)
    return shapes


# -- calling ------------------------------------------------------------------------------------------


def test_a_call_agrees_with_float64(isa):
    model = Net()
    y = model(IMAGES)
    assert y.dtype == np.float32 and y.shape == (5, 4)
    np.testing.assert_allclose(y, reference(model, IMAGES), rtol=1e-5, atol=1e-6)


def test_inputs_of_any_real_type_and_layout_are_taken():
    model = Net()
    pixels = np.random.default_rng(1).integers(0, 255, (2, *SHAPE), np.uint8)
    expected = model(pixels.astype(np.float32))
    strided = np.repeat(pixels, 2, axis=3)[..., ::2]
    for x in (
        pixels,
        pixels.astype(np.float64),
        np.asfortranarray(pixels),
        strided,
        pixels.astype(">i4"),
        pixels.tolist(),
    ):
        assert (model(x) == expected).all()


def misaligned(x: np.ndarray) -> np.ndarray:
    memory = np.empty(x.nbytes + 1, np.uint8)[1:]
    result = memory.view(np.float32).reshape(x.shape)
    result[...] = x
    return result


@pytest.mark.parametrize("change", [
    lambda x: x.astype(np.float64), lambda x: x.astype(">f4"), np.asfortranarray, misaligned, lambda x: x.tolist(),
    lambda x: x.view(np.recarray), lambda x: np.repeat(x, 2, axis=3)[..., ::2], lambda x: x.copy(),
], ids=["float64", "big-endian", "Fortran", "misaligned", "list", "subclass", "strided", "copy"])  # fmt: skip
def test_calls_after_one_of_the_same_shape_take_any_input(change):
    net = Net()
    expected = net(IMAGES)
    for _ in range(3):
        assert np.array_equal(net(IMAGES), expected) and np.array_equal(net(change(IMAGES)), expected)


def test_calls_after_one_of_the_same_shape_are_checked():
    net = Net()
    net.reproducible = True
    expected = net(IMAGES)
    with pytest.raises(TypeError, match="x.dtype=datetime64"):
        net(np.zeros(IMAGES.shape, "datetime64[s]"))
    with pytest.raises(TypeError, match="x.dtype=complex64"):
        net(IMAGES.astype(np.complex64))
    assert np.array_equal(net(IMAGES[:2]), expected[:2])
    with pytest.raises(ValueError, match="expected"):
        net(IMAGES[0])
    assert net(IMAGES[:0]).shape == (0, 4)
    first, second = net(IMAGES), net(IMAGES)
    first[...] = 0  # every call gives an array of its own
    assert np.array_equal(second, expected) and np.array_equal(net(IMAGES), expected)
    net.fc.bias = net.fc.bias + 1
    np.testing.assert_allclose(net(IMAGES), expected + 1, rtol=1e-5)


def test_calls_after_one_of_the_same_shape_notice_another_instruction_set_and_number_of_threads():
    net, plans = Net(), set()
    reference = net(IMAGES)
    for isa in _cpu.available_isas():
        previous = _cpu.isa()
        _cpu.set_isa(isa)
        try:
            fresh = Net()(IMAGES)
            for threads in (1, 3, 2):
                with num_threads(threads):
                    assert np.array_equal(net(IMAGES), fresh) and np.array_equal(net(IMAGES), fresh)
            plans.add(id(net._cache._recent[2].plan))
        finally:
            _cpu.set_isa(previous)
    assert len(plans) == len(_cpu.available_isas()) and np.array_equal(net(IMAGES), reference)


def test_bad_inputs_are_refused():
    model = Net()
    with pytest.raises(TypeError, match=r"Net: x\.dtype=complex64"):
        model(IMAGES.astype(np.complex64))
    with pytest.raises(ValueError, match="expected a batch of inputs"):
        model(1.0)
    with pytest.raises(ValueError, match=r"layer 'stem\.0' \(Conv2d\): conv2d: .*expected"):
        model(IMAGES[:, :2])


def test_an_empty_batch_gives_an_empty_batch():
    model = Net()
    assert model(IMAGES[:0]).shape == (0, 4)
    assert model.predict_proba(IMAGES[:0]).shape == (0, 4)
    assert model.predict(IMAGES[:0]).shape == (0,)


def test_models_nest():
    inner = Net()
    outer = Sequential(inner, ReLU())
    assert list(outer.state_dict()) == [f"0.{name}" for name in inner.state_dict()]
    np.testing.assert_array_equal(outer(IMAGES), np.maximum(inner(IMAGES), 0))


def test_results_do_not_depend_on_the_place_in_the_batch():
    model = Net()
    together = model(IMAGES)
    for i in range(len(IMAGES)):
        assert (model(IMAGES[i : i + 1])[0] == together[i]).all()


# -- the cache ----------------------------------------------------------------------------------------


def test_a_shape_is_compiled_once(compilations):
    model = Net()
    for _ in range(3):
        model(IMAGES)
        model(IMAGES[:2])
    assert compilations == [IMAGES.shape, IMAGES[:2].shape]


def test_other_models_do_not_matter_to_the_cache(compilations):
    model = Net()
    model(IMAGES)
    Net().fc.bias = np.zeros(4)
    model(IMAGES)
    assert len(compilations) == 1


def test_the_least_recently_used_plans_go_first(compilations):
    model = Sequential(Flatten(), ReLU())
    rows = np.zeros((20, 2, 3))
    for n in range(1, plan_cache.MAX_PLANS + 1):
        model(rows[:n])
    model(rows[:1])
    model(rows[:19])  # pushes out the plan for 2, not the one for 1
    compilations.clear()
    model(rows[:1])
    assert compilations == []
    model(rows[:2])
    assert compilations == [(2, 2, 3)]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.fc, "bias", np.full(4, 3.0)),
        lambda model: model.load_state_dict({"block.conv.weight": np.ones((8, 8, 3, 3))}, strict=False),
        lambda model: setattr(model, "fc", Linear(8, 6, rng=9)),
        lambda model: setattr(model.stem, "1", MaxPool2d(2)),
        lambda model: setattr(model.block.norm, "eps", 1.0),
        lambda model: setattr(model.block.norm, "running_mean", np.ones(8)),
        lambda model: setattr(model.fc, "bias", None),
    ],
)
def test_every_change_of_a_layer_is_noticed(change):
    model = Net()
    before = model(IMAGES)
    change(model)
    after = model(IMAGES)
    assert before.shape != after.shape or (before != after).any()
    np.testing.assert_allclose(after, reference(model, IMAGES), rtol=1e-5, atol=1e-6)


def test_many_threads_may_call_one_model():
    model = Net()
    expected = {n: model(IMAGES[:n]) for n in range(1, 6)}
    model = copy.deepcopy(model)
    wrong: list[int] = []

    def call(n: int) -> None:
        for _ in range(20):
            if not (model(IMAGES[:n]) == expected[n]).all():
                wrong.append(n)

    threads = [threading.Thread(target=call, args=(1 + i % 5,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model, 5))])
def test_copies_predict_the_same_and_are_independent(clone):
    model = Net()
    model.classes = list("abcd")
    y = model(IMAGES)
    twin = clone(model)
    assert twin.classes == model.classes and twin.input_shape == SHAPE
    assert (twin(IMAGES) == y).all()
    twin.fc.bias = np.full(4, 9.0)
    assert (twin(IMAGES) != y).all() and (model(IMAGES) == y).all()


def test_a_pickle_holds_no_plans():
    model = Net()
    size = len(pickle.dumps(model))
    model(IMAGES)
    assert len(pickle.dumps(model)) == size


# -- predictions --------------------------------------------------------------------------------------


def test_probabilities_are_the_softmax_of_the_outputs():
    model = Net()
    scores = reference(model, IMAGES)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(IMAGES), shares, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(IMAGES), scores.argmax(axis=1))


def test_a_final_softmax_is_not_applied_twice():
    model = Net()
    shares = model.predict_proba(IMAGES)
    np.testing.assert_allclose(Sequential(model, Softmax()).predict_proba(IMAGES), shares, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 100])
def test_batches_do_not_change_probabilities(batch_size, compilations):
    model = Net()
    expected = model.predict_proba(IMAGES)
    compilations.clear()
    assert (model.predict_proba(IMAGES, batch_size=batch_size) == expected).all()
    assert all(shape[0] <= batch_size for shape in compilations)


def test_labels():
    model = Net()
    numbers = model.predict(IMAGES)
    assert numbers.dtype == np.int64
    model.classes = np.array(["cat", "dog", "hörse", "bird"])
    assert model.classes == ["cat", "dog", "hörse", "bird"]
    assert model.predict(IMAGES).tolist() == [model.classes[i] for i in numbers]


def test_predictions_need_classes():
    with pytest.raises(ValueError, match=r"outputs are \(5, 1\), expected \(N, classes\), classes >= 2"):
        Net(classes=1).predict_proba(IMAGES)
    with pytest.raises(ValueError, match=r"outputs are \(5, 3, 12, 10\)"):
        Sequential(ReLU()).predict(IMAGES)
    with pytest.raises(ValueError, match="batch_size=0"):
        Net().predict(IMAGES, batch_size=0)
    model = Net()
    model.classes = ["a", "b"]
    with pytest.raises(ValueError, match="4 outputs, but 2 classes have names"):
        model.predict(IMAGES)


@pytest.mark.parametrize("names", ["cat", [], [1, 2], [None]])
def test_classes_are_a_list_of_names(names):
    with pytest.raises(TypeError, match=r"Net\.classes: expected a sequence of str"):
        Net().classes = names


@pytest.mark.parametrize("shape", [(), (3, 0, 2), (3, None, 4), (3, 2.5, 4)])
def test_input_shapes_are_positive(shape):
    with pytest.raises(ValueError, match="Net: input_shape="):
        Net().input_shape = shape


PREPROCESS = Preprocess((12, 10), 1.0, "bilinear", (127.0,) * 3, (64.0,) * 3)


def test_classify_a_photo():
    model = Net()
    photo = np.random.default_rng(2).integers(0, 255, (20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match=r"set Net\.preprocess first"):
        model.classify(photo)
    model.preprocess = PREPROCESS
    probabilities = model.predict_proba(PREPROCESS(photo))[0]
    best = (-probabilities).argsort()
    assert model.classify(photo, top=2) == [Prediction(i, str(i), probabilities[i]) for i in best[:2]]
    model.classes = ["cat", "dog", "horse", "bird"]
    assert [p.label for p in model.classify(photo)] == [model.classes[i] for i in best]
    assert model.classify(photo, top=0) == []


# -- Sequential ---------------------------------------------------------------------------------------


def test_sequential_by_number_and_by_name():
    relu, fc = ReLU(), Linear(2, 3)
    numbered, named = Sequential(relu, fc), Sequential({"relu": relu, "fc": fc})
    assert list(numbered.state_dict()) == ["1.weight", "1.bias"]
    assert list(named.state_dict()) == ["fc.weight", "fc.bias"]
    assert named.fc is fc and numbered[-1] is fc and list(named) == [relu, fc] and len(named) == 2
    assert list(named[1:].state_dict()) == ["fc.weight", "fc.bias"]
    assert (numbered([[1, -1]]) == named([[1, -1]])).all()
    with pytest.raises(TypeError, match="Sequential: layer '1' is a function, expected a Layer"):
        Sequential(relu, functional.relu)
    with pytest.raises(IndexError):
        numbered[2]


# -- summary ------------------------------------------------------------------------------------------


def test_summary_counts_and_explains():
    model = zoo.lenet()
    summary = model.summary()
    assert summary.parameters == 61_706
    rows = {row.name: row for row in summary.rows}
    conv = rows["conv1"]
    assert (conv.op, conv.output_shape, conv.parameters) == ("Conv", (1, 6, 28, 28), 156)
    assert conv.flops == 28 * 28 * 6 * (2 * 25 + 1) or conv.flops == 28 * 28 * 6 * 2 * 25
    assert summary.flops == sum(row.flops for row in summary.rows)
    assert conv.kernel and all(isinstance(reason, str) and reason for reason in conv.reasons.values())
    text = str(summary)
    assert "conv1" in text and "61,706" in text
    assert all(row.kernel in text for row in summary.rows)


def test_summary_counts_shared_parameters_once():
    shared = Linear(4, 4)
    assert Sequential(shared, ReLU(), shared).summary((4,)).parameters == 20
