"""The trainer: gradients through every operation, state, determinism, freezing."""

from __future__ import annotations

import copy
import pickle
import weakref

import numpy as np
import pytest
from training.networks import Everything, batch, gradients, with_loss

import fastcnn as fc
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.kernels import storage

RNG = np.random.default_rng(0)


def test_first_step_of_every_operation_follows_the_definitions(isa, poisoned):
    """SGD with rate 1 and no momentum: the change of each parameter is its gradient."""
    model, (x, y) = Everything(), batch()
    model.bn.freeze()  # known statistics: the forward graph as it is at inference
    trainer = fc.Trainer(model, fc.SGD(1.0))
    before = model.state_dict()
    loss = trainer.step(x, y)
    graph = with_loss(model.graph((3, 16, 16)), "CrossEntropy", (6, 5))
    graph.constants.update({name: before[name] for name in graph.constants if name in before})
    frozen = {name for name in graph.constants if name.startswith("bn.")}
    values = {"x": x, "target": np.eye(5)[y] / 6} | {name: graph.constants.pop(name) for name in frozen}
    graph.inputs |= {name: values[name].shape for name in frozen}
    expected_loss, expected = gradients(graph, values, "loss")
    assert abs(loss - expected_loss) <= 1e-6 * abs(expected_loss)
    assert set(expected) == {name for name, _ in model.named_parameters()} - frozen
    for name, after in model.state_dict().items():
        if name in frozen:
            np.testing.assert_array_equal(after, before[name])
        else:
            assert np.abs(before[name] - after - expected[name]).max() <= 2e-6 * (1 + np.abs(after).max()), name


def network(dropout=0.3):
    return fc.Sequential(
        fc.Conv2d(3, 24, 3, padding=1, rng=0),
        fc.BatchNorm2d(24),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Conv2d(24, 40, 3, stride=2, padding=1, rng=1),
        fc.BatchNorm2d(40),
        fc.ReLU6(),
        fc.Dropout(dropout),
        fc.Conv2d(40, 40, 3, padding=1, groups=40, rng=2),
        fc.Conv2d(40, 64, 1, rng=3),
        fc.ReLU(),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Linear(64, 5, rng=4),
    )


def trained(threads=1, steps=10, **settings):
    model = network()
    with fc.num_threads(threads):
        trainer = fc.Trainer(model, fc.Adam(1e-2), clip_norm=0.5, seed=3, **settings)
        losses = [trainer.step(*batch(8, seed=i)) for i in range(steps)]
    return losses, model.state_dict()


def same(a, b):
    return a[0] == b[0] and all(np.array_equal(a[1][name], b[1][name]) for name in a[1])


def test_bits_do_not_depend_on_threads_nor_on_recomputing():
    one = trained(steps=100)
    assert same(one, trained(2, steps=100)) and same(one, trained(3, steps=100))
    assert same(one, trained(steps=100, recompute=True))


@pytest.mark.parametrize("size", [3, 5])
def test_bits_of_strided_depthwise_layers_do_not_depend_on_threads(size, isa):
    """The gradients of a depthwise convolution of stride 2: taps fall between the outputs' pixels."""
    runs = []
    for threads in (1, 2, 3):
        model = fc.Sequential(
            fc.Conv2d(3, 21, 3, padding=1, rng=0),
            fc.BatchNorm2d(21),
            fc.ReLU6(),
            fc.Conv2d(21, 21, size, stride=2, padding=size // 2, groups=21, bias=False, rng=1),
            fc.BatchNorm2d(21),
            fc.ReLU6(),
            fc.Conv2d(21, 16, 1, rng=2),
            fc.GlobalAvgPool2d(),
            fc.Flatten(),
            fc.Linear(16, 5, rng=3),
        )
        with fc.num_threads(threads):
            trainer = fc.Trainer(model, fc.SGD(0.05, momentum=0.9))
            losses = [trainer.step(*batch(5, 17, seed=i)) for i in range(10)]
        assert {"depthwise", "depthwisegrad"} <= {s.kernel for s in next(iter(trainer._plans.values())).plan.steps}
        runs.append((losses, model.state_dict()))
    assert np.isfinite(runs[0][0]).all() and same(runs[0], runs[1]) and same(runs[0], runs[2])


@pytest.mark.parametrize(
    ("algorithm", "stride"),
    [
        ("direct", 1),
        ("direct", 2),
        ("im2col", 2),
        ("winograd", 1),
        ("winograd2", 1),
        ("winograd2", 2),
        ("winograd_lean", 1),
        ("winograd6", 1),
    ],
)
def test_filters_are_packed_in_every_step_as_they_are_ahead(algorithm, stride, isa, poisoned):
    """The loss that each step tells is that of a prediction before it."""
    model = fc.Sequential(
        fc.Conv2d(3, 21, 3, padding=1, rng=0),
        fc.ReLU(),
        fc.Conv2d(21, 37, 3, stride, padding=1, algorithm=algorithm, rng=1),
        fc.ReLU(),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Linear(37, 5, rng=2),
    )
    trainer = fc.Trainer(model, fc.SGD(0.1))
    x, y = batch(5, 13)
    for _ in range(3):
        scores = model(x).astype(np.float64)
        expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(5), y])
        assert trainer.step(x, y) == pytest.approx(expected, rel=2e-6)
    assert algorithm in {step.kernel for step in next(iter(trainer._plans.values())).plan.steps}


def test_recomputing_needs_less_memory():
    model = fc.zoo.resnet20()
    arenas = []
    for recompute in (False, True):
        trainer = fc.Trainer(model, fc.SGD(0.1), recompute=recompute)
        trainer.step(np.zeros((8, 3, 32, 32), np.float32), np.zeros(8, int))
        arenas.append(next(iter(trainer._plans.values())).plan.arena_bytes)
    assert arenas[1] < 0.85 * arenas[0]


@pytest.mark.parametrize("loss", ["cross_entropy", lambda scores, labels: ((scores - labels[:, None]) ** 2).mean()])
def test_batches_of_all_sizes_compute_in_one_arena(monkeypatch, loss):
    """The activations of two sizes are never there at once, and the bits are those of arenas of their own."""

    def states(share):
        if not share:
            monkeypatch.setattr(Plan, "compute_in", lambda plan, arena: None)
        arenas = []

        def counted(floats):
            arena = original(floats)
            arenas.append(weakref.ref(arena.base))
            return arena

        monkeypatch.setattr(storage, "allocate_arena", counted)
        rng, trainer = np.random.default_rng(1), fc.Trainer(network(), fc.Adam(0.01), loss)
        for count in (6, 12, 3, 12, 6):
            x, y = rng.standard_normal((count, 3, 8, 8), np.float32), rng.integers(0, 4, count)
            trainer.step(x, y, update=count > 3)
        sizes = [arena().nbytes for arena in arenas if arena() is not None]
        return trainer.state_dict() | trainer.model.state_dict(), sizes, trainer

    original = storage.allocate_arena
    (shared, sizes, trainer), (own, _, _) = states(True), states(False)
    largest = max(compiled.plan.arena_bytes for compiled in trainer._plans.values())
    assert len(sizes) == 1 and largest <= sizes[0]
    assert all(np.array_equal(shared[name], own[name]) for name in own)


def test_a_step_on_large_images_takes_forty_times_their_bytes():
    """Training on 1500 images or more, 32 at a time, then takes at most two and a half times the memory of their bytes:
    the images, the activations, and some batches as numbers."""
    trainer = fc.Trainer(fc.zoo.small_cnn(2, 3, 224), fc.Adam())
    step = trainer._graph((32, 3, 224, 224))
    plan = compile_graph(step.graph, step.shapes, parameters=step.packed)
    assert plan.arena_bytes <= 40 * 32 * 3 * 224 * 224


def test_resuming_is_exact():
    whole = trained(steps=8)
    first, model = network(), network()
    trainer = fc.Trainer(first, fc.Adam(1e-2), clip_norm=0.5, seed=3)
    losses = [trainer.step(*batch(8, seed=i)) for i in range(4)]
    state, weights = pickle.loads(pickle.dumps((trainer.state_dict(), first.state_dict())))
    model.load_state_dict(weights)
    trainer = fc.Trainer(model, fc.Adam(1e-2), clip_norm=0.5, seed=3)
    trainer.load_state_dict(state)
    assert trainer.steps == 4
    losses += [trainer.step(*batch(8, seed=i)) for i in range(4, 8)]
    assert same(whole, (losses, model.state_dict()))


def test_the_model_is_up_to_date_whenever_it_is_looked_at(tmp_path):
    model, (x, y) = network(0.0), batch()
    model.input_shape = (3, 16, 16)
    trainer = fc.Trainer(model, fc.SGD(0.5))
    seen = [model(x).copy()]
    for look in (lambda: model(x), lambda: copy.deepcopy(model)(x), lambda: pickle.loads(pickle.dumps(model))(x)):
        trainer.step(x, y)
        seen.append(look().copy())
    trainer.step(x, y)
    model.save(tmp_path / "m.safetensors")
    seen.append(fc.load(tmp_path / "m.safetensors")(x))
    assert np.array_equal(seen[-1], model(x))
    assert all(not np.array_equal(a, b) for a, b in zip(seen, seen[1:], strict=False))
    before = model[0].weight
    trainer.step(x, y)
    assert not np.array_equal(before, model[0].weight) and not model[0].weight.flags.writeable


def test_arrays_assigned_to_the_model_are_taken_over():
    model, (x, y) = network(0.0), batch()
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    first = trainer.step(x, y)
    trainer.step(x, y)
    model.load_state_dict(network(0.0).state_dict())
    assert trainer.step(x, y) == first


def test_frozen_layers_stay_and_cost_nothing():
    model, (x, y) = network(0.0), batch()
    for layer in list(model)[:9]:
        layer.freeze()
    assert model[1].is_frozen and not model[9].is_frozen
    trainer = fc.Trainer(model, fc.SGD(0.1))
    before = model.state_dict()
    trainer.step(x, y)
    after = model.state_dict()
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"9", "13"}
    kernels = [step.name for step in next(iter(trainer._plans.values())).plan.steps if "grad" in step.name]
    assert not any(name.startswith(("0:", "4:", "8:")) for name in kernels)
    model.thaw()
    trainer.step(x, y)
    assert not np.array_equal(model[0].weight, before["0.weight"])


def test_dropout_drops_its_share_and_scales_the_rest():
    layer = fc.Sequential(fc.Linear(1, 4000, bias=False), fc.Dropout(0.25), fc.Linear(4000, 2, rng=0))
    layer[0].weight = np.ones((4000, 1))
    trainer = fc.Trainer(layer, fc.SGD(0.0), "mse", seed=7)
    before = layer[2].weight.astype(np.float64)
    scores = []
    for _ in range(2):
        trainer.step(np.ones((2, 1)), np.zeros((2, 2)))
        scores.append(trainer.outputs.copy())
    kept = (scores[0] - layer[2].bias) * 0.75
    spread = np.sqrt((before**2).sum(axis=1) * 0.25 * 0.75)
    assert (np.abs(kept - 0.75 * before.sum(axis=1)) < 5 * spread).all()
    assert not np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[0][0], scores[0][1])


def test_running_statistics_follow_the_batches():
    model, (x, y) = fc.Sequential(fc.BatchNorm2d(3, momentum=0.3), fc.Flatten(), fc.Linear(3 * 256, 5)), batch()
    trainer = fc.Trainer(model, fc.SGD(0.1))
    trainer.step(x * 2 + 1, y)
    values = (x * 2 + 1).astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(model[0].running_mean, 0.3 * values.mean(1), rtol=1e-5)
    np.testing.assert_allclose(model[0].running_var, 0.7 + 0.3 * values.var(1, ddof=1), rtol=1e-5)


def test_learning_rate_is_read_by_every_step():
    model, (x, y) = network(0.0), batch()
    trainer = fc.Trainer(model, fc.SGD(0.1))
    before = model.state_dict()
    trainer.learning_rate = 0.0
    trainer.step(x, y)
    assert all(np.array_equal(before[name], value) for name, value in model.named_parameters())
    assert trainer.learning_rate == 0.0 and trainer.outputs.shape == (6, 5)


def test_changing_the_instruction_set_keeps_the_state():
    from fastcnn.kernels import _cpu

    model, (x, y) = network(0.0), batch()
    trainer = fc.Trainer(model, fc.SGD(0.05, momentum=0.9))
    losses = [trainer.step(x, y)]
    previous = _cpu.set_isa("generic")
    losses.append(trainer.step(x, y))
    _cpu.set_isa(previous)
    losses.append(trainer.step(x, y))
    other = fc.Trainer(network(0.0), fc.SGD(0.05, momentum=0.9))
    np.testing.assert_allclose(losses, [other.step(x, y) for _ in range(3)], rtol=1e-4)


def test_what_does_not_fit_is_named():
    model, (x, y) = network(), batch()
    with pytest.raises(TypeError, match="optimizer="):
        fc.Trainer(model, "sgd")
    with pytest.raises(ValueError, match="loss='huber', expected one of cross_entropy"):
        fc.Trainer(model, fc.SGD(), "huber")
    with pytest.raises(ValueError, match="clip_norm=0"):
        fc.Trainer(model, fc.SGD(), clip_norm=0)
    trainer = fc.Trainer(model, fc.SGD())
    with pytest.raises(ValueError, match="labels from 0 to 5, expected 0 to 4"):
        trainer.step(x, [0, 1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="y has 2 labels, expected 6"):
        trainer.step(x, [0, 1])
    with pytest.raises(TypeError, match="expected integer labels"):
        trainer.step(x, [0.5] * 6)
    with pytest.raises(ValueError, match="at least one input"):
        trainer.step(x[:0], y[:0])
    with pytest.raises(ValueError, match="@steps is missing"):
        trainer.load_state_dict({})
    with pytest.raises(ValueError, match="expected scores"):
        fc.Trainer(fc.Sequential(fc.Conv2d(3, 2, 1)), fc.SGD()).step(x, y)
