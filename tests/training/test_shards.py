"""Batches cut into shards: gradients are sums in the order of a tree, and the rest is as without."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from distributed_networks import RNG, X, Y, network, same, trained

import fastcnn as fc
from fastcnn.distributed import Ray
from fastcnn.distributed.team import Member, Team
from fastcnn.distributed.trainer import RemoteTrainer
from fastcnn.distributed.worker import About
from fastcnn.training.shard_engine import Engine
from fastcnn.training.sharded import ShardedTrainer
from fastcnn.training.shards import branches, cut, middle, tree


@pytest.fixture(autouse=True)
def _threads():
    before = fc.get_num_threads()
    yield
    fc.set_num_threads(before)


def test_any_number_of_threads_has_the_same_bits():
    found = []
    for threads in (1, 2, 3):
        fc.set_num_threads(threads)
        found.append(trained(2))
    assert same(found[0], found[1]) and same(found[0], found[2])


def dense():
    return fc.Sequential(fc.Flatten(), fc.Linear(3 * 12 * 12, 8, rng=0), fc.Tanh(), fc.Linear(8, 4, rng=1))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip_norm": 0.1},
        {"accumulate": 3},
        {"ema": 0.9},
        {"sample_weight": np.where(np.arange(52) % 3, 1.0, 0.0)},
        {"loss": lambda scores, y: ((scores - np.eye(4)[y]) ** 2).sum(axis=1)},
        {"optimizer": fc.LAMB(0.01)},
        {"optimizer": fc.Lion(0.001)},
        {"optimizer": fc.SGD(0.1, momentum=0.9, groups={"*.bias": {"learning_rate": 0.01}})},
    ],
    ids=str,
)
def test_without_batch_normalisation_the_cut_is_rounding_alone(settings):
    states = []
    for shards in (None, 1, 3, 13):
        model = dense()
        settings = {"optimizer": fc.Adam(0.01), **settings}
        model.fit(X, Y, 2, 13, progress=False, shards=shards, **settings)
        states.append(model.state_dict())
    for other in states[1:]:
        for name, array in states[0].items():
            np.testing.assert_allclose(other[name], array, rtol=2e-4, atol=2e-5)


def test_running_statistics_follow_the_mean_of_the_shards():
    model = fc.Sequential(fc.BatchNorm2d(3, momentum=0.25), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(3, 4, rng=0))
    model.fit(X[:8], Y[:8], 1, 8, shards=2, progress=False, optimizer=fc.SGD(0.0))
    order = fc.training.loader.Batches(fc.training.data.Dataset.of(X[:8], Y[:8]), 8).indices(0, 0)
    halves = X[order].reshape(2, 4, 3, 144)
    mean = halves.mean((1, 3)).mean(0)
    variance = halves.transpose(0, 2, 1, 3).reshape(2, 3, -1).var(2, ddof=1).mean(0)
    np.testing.assert_allclose(model[0].running_mean, 0.25 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model[0].running_var, 0.75 + 0.25 * variance, rtol=1e-5)


def test_synchronised_batch_normalisation_is_that_of_the_batch():
    states = []
    for settings in ({}, {"shards": 5, "sync_batch_norm": True}, {"shards": 5}):
        model = fc.Sequential(*(layer for layer in network() if not isinstance(layer, fc.Dropout)))
        model.fit(X, Y, 2, 13, progress=False, optimizer=fc.SGD(0.1, momentum=0.5), **settings)
        states.append(model.state_dict())
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-4, atol=2e-5)
    assert max(abs(states[2][name] - array).max() for name, array in states[0].items()) > 1e-3


def test_synchronised_batch_normalisation_has_the_same_bits_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 7):
        fc.set_num_threads(threads)
        found.append(trained(1, sync_batch_norm=True))
    assert same(found[0], found[1]) and same(found[0], found[2])


def test_a_shard_without_weight_cannot_be_synchronised():
    weights = np.where(np.arange(52) == 0, 1.0, 0.0)
    with pytest.raises(ValueError, match="fit: sync_batch_norm: all inputs of a shard have the weight 0"):
        trained(1, sync_batch_norm=True, sample_weight=weights, augment=None)


def test_a_training_goes_on_from_a_checkpoint_to_the_bit(tmp_path):
    trained(1, checkpoint=tmp_path / "run", checkpoint_steps=3)
    assert same(trained(3, checkpoint=tmp_path / "run", resume=True), trained(3))
    with pytest.raises(ValueError, match="fit: shards=4, expected 7 as in"):
        trained(4, checkpoint=tmp_path / "run", resume=True, shards=4)


def test_a_step_that_a_signal_handler_or_another_thread_changes_begins_again():
    model = network()

    class Change(fc.training.Callback):
        def on_batch(self, run):
            if run.step == 2:
                run.model[0].weight = 2 * run.model[0].weight

    model.fit(X, Y, 1, 13, shards=3, callbacks=[Change()], progress=False)
    assert all(np.isfinite(array).all() for array in model.state_dict().values())


@pytest.mark.parametrize("shards", range(1, 18))
def test_any_owners_of_branches_leave_the_tree_as_it_is(shards):
    def add(left, right):
        return f"({left}+{right})"

    expected = tree(0, shards, str, add)
    for _ in range(10):
        owners = sorted(RNG.integers(0, 4, shards).tolist())
        parts = {(first, last): tree(first, last, str, add) for first, last, _ in branches(0, shards, owners)}

        def joined(first, last, parts=parts):
            if (first, last) in parts:
                return parts[first, last]
            half = middle(first, last)
            return add(joined(first, half), joined(half, last))

        assert joined(0, shards) == expected


def test_parts_are_as_numpy_cuts_them():
    for count in range(1, 20):
        parts = [len(part) for part in np.array_split(np.arange(count), 7) if len(part)]
        assert [part.stop - part.start for part in cut(count, 7)] == parts


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shards": 0}, "fit: shards=0, expected an integer >= 1"),
        ({"sync_batch_norm": True, "shards": None}, "fit: sync_batch_norm=True, but batches are not cut"),
        ({"distributed": 3}, "fit: distributed=3, expected fastcnn.distributed.Ray"),
        ({"distributed": Ray(9), "shards": 4}, "fit: distributed: workers=9, expected at most 4, the number of shards"),
    ],
)
def test_wrong_settings_are_told(settings, told):
    with pytest.raises((ValueError, TypeError), match=told):
        trained(1, **settings)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"workers": 1, "threads": 0}, {"workers": 1, "timeout": 0}])
def test_ray_checks_its_arguments(settings):
    with pytest.raises(ValueError, match=r"Ray: \w+=0, expected"):
        Ray(**settings)


def test_without_ray_one_message_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"^fit: distributed needs Ray: pip install 'fastcnn\[ray\]'$"):
        trained(1, distributed=Ray(2))


def test_buckets_are_complete_while_the_backward_pass_goes_on():
    model = fc.Sequential(fc.Flatten(), *(fc.Linear(600, 600, rng=i) for i in range(3)), fc.Linear(600, 2, rng=3))
    trainer = ShardedTrainer(model, fc.SGD(0.1), shards=1)
    engine = Engine(trainer._recipe(), (600,))
    layout = engine.layout
    state, slot = (np.zeros(places.floats, np.float32) for places in (layout.state, layout.slot))
    engine.fill(state, {})
    found = []
    x = RNG.standard_normal((4, 600)).astype(np.float32)
    batch = fc.training.loader.Batch(x, np.arange(4) % 2, None)
    engine.gradient(batch, 0, 0, layout.state.views(state), slot, reached=lambda i: found.append(slot.copy()))
    assert len(found) == len(layout.buckets) > 2
    for i, bucket in enumerate(layout.buckets):
        assert np.array_equal(found[i][bucket.start : bucket.stop], slot[bucket.start : bucket.stop])
    last = layout.buckets[-1]
    assert slot[last.start : last.stop].any() and not found[0][last.start : last.stop].any()


def workers(*nodes):
    return [
        Member(None, i, About(f"host{node}", 100 + i, "1", ("generic",), (0,)), node) for i, node in enumerate(nodes)
    ]


def test_each_machine_updates_each_bucket_once():
    members = workers("a", "a", "a", "b", "c", "c")
    trainer = SimpleNamespace(
        _plan=SimpleNamespace(statistics=(True, *[False] * 6)), team=Team(None, 6, 1, 1.0, members)
    )
    for node in "abc":
        done = [i for member, buckets in RemoteTrainer._buckets(trainer) if member.node == node for i in buckets]
        assert sorted(done) == list(range(7))


def test_a_slow_worker_is_named_once_and_gets_fewer_shards():
    team = Team(None, 3, 1, 1.0, workers("a", "b", "c"))
    owners = team.assign(9, [])
    assert owners == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    with pytest.warns(fc.FastcnnWarning) as told:
        for _ in range(12):
            for i, seconds in enumerate((0.1, 0.4, 0.1)):
                team.note(i, [seconds] * 3)
            team.name_stragglers()
    named = "fit: worker 1 on hostb (process 101) is slow: 0.4 s for a shard, others take 0.1 s; it gets fewer shards"
    assert [str(warning.message) for warning in told] == [named]
    assert [team.assign(9, owners).count(i) for i in range(3)] == [4, 1, 4]
