"""What a step does beside following gradients: groups of parameters, gradients over several batches, averages, weights
of inputs, and losses that are plain functions."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastcnn as fc

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 3, 8, 8)).astype(np.float32), RNG.integers(0, 4, 12)


def network(seed=0):
    with fc.layers.seeded(seed):
        return fc.Sequential(
            fc.Conv2d(3, 17, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(17 * 16, 4)
        )


def assert_close(model, other, rtol=1e-4, atol=1e-6):
    for (name, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def equal(model, other):
    return all(
        np.array_equal(a, b) for (_, a), (_, b) in zip(*(m.named_parameters() for m in (model, other)), strict=True)
    )


OPTIMIZERS = [
    fc.SGD(0.1, momentum=0.9, weight_decay=0.01),
    fc.Adam(0.01),
    fc.RMSprop(0.01, momentum=0.5),
    fc.LAMB(0.01),
]


# -- several batches as one ---------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_gradients_of_several_batches_are_those_of_the_large_one(isa, poisoned, optimizer, clip_norm):
    models = network(), network()
    large, small = (fc.Trainer(model, optimizer, clip_norm=clip_norm) for model in models)
    for _ in range(3):
        whole = large.step(X, Y)
        parts = [
            small.step(X[s], Y[s], update=s.stop == 12) * (s.stop - s.start)
            for s in (slice(0, 5), slice(5, 6), slice(6, 12))
        ]
        assert sum(parts) / 12 == pytest.approx(whole, rel=1e-5)
    assert_close(*models)
    assert (small.steps, small.updates, large.updates) == (9, 3, 3)


def test_class_weights_count_over_all_batches():
    models = network(), network()
    loss = fc.CrossEntropy(class_weights=[1, 5, 0.1, 2])
    large, small = (fc.Trainer(model, fc.SGD(0.1), loss) for model in models)
    large.step(X, Y)
    small.step(X[:3], Y[:3], update=False)
    small.step(X[3:], Y[3:])
    assert_close(*models)


def test_parameters_wait_for_the_update_and_state_travels():
    model = network()
    trainer = fc.Trainer(model, fc.Adam(0.01))
    before = {name: array.copy() for name, array in model.named_parameters()}
    trainer.step(X[:4], Y[:4], update=False)
    assert all(np.array_equal(before[name], array) for name, array in model.named_parameters())
    other = copy.deepcopy(model)
    resumed = fc.Trainer(other, fc.Adam(0.01))
    resumed.load_state_dict(trainer.state_dict())
    for t in (trainer, resumed):
        t.step(X[4:], Y[4:])
        t.step(X, Y)
    assert equal(model, other) and resumed.updates == 2


# -- averages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", [0.9, 0.3, 0.0])
def test_averages_follow_the_formula(isa, average):
    model = network()
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9), ema=average)
    expected: dict[str, np.ndarray] = {}
    for t in range(1, 21):
        trainer.step(X, Y)
        d = min(average, (1 + t) / (10 + t)) if t > 1 else 0
        for name, array in model.named_parameters():
            expected[name] = d * expected.get(name, 0) + (1 - d) * array.astype(np.float64)
    averages = trainer.averages()
    assert list(averages) == [name for name, _ in model.named_parameters()]
    for name, array in averages.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    plain = network()
    other = fc.Trainer(plain, fc.SGD(0.1, momentum=0.9))
    for _ in range(20):
        other.step(X, Y)
    assert equal(model, plain) and other.averages() == {}


# -- groups -------------------------------------------------------------------------------------------


def test_groups_have_rates_and_decays_of_their_own():
    groups = {"4.*": {"learning_rate": 0.02}, "*.bias": {"weight_decay": 0.0}, "0.*": {}}
    models = network(), network()
    grouped = fc.Trainer(models[0], fc.SGD(0.1, weight_decay=0.5, groups=groups))
    plain = fc.Trainer(models[1], fc.SGD(0.0))
    before = dict(network().named_parameters())
    gradients = {}
    probe = fc.Trainer(model := network(), fc.SGD(1.0))
    probe.step(X, Y)
    for name, array in model.named_parameters():
        gradients[name] = before[name] - array
    grouped.learning_rate = 0.05  # half: all rates follow
    grouped.step(X, Y)
    plain.step(X, Y)
    rates = {"0.weight": (0.05, 0.5), "0.bias": (0.05, 0.0), "4.weight": (0.01, 0.5), "4.bias": (0.01, 0.5)}
    for name, array in models[0].named_parameters():
        rate, decay = rates[name]
        expected = before[name] - rate * (gradients[name] + decay * before[name])
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


def test_a_group_of_several_patterns():
    one = fc.SGD(0.1, groups={"0.*": {"learning_rate": 0.5}, "4.bias": {"learning_rate": 0.5}})
    other = fc.SGD(0.1, groups={("0.*", "4.bias"): {"learning_rate": 0.5}})
    models = network(), network()
    for model, optimizer in zip(models, (one, other), strict=True):
        fc.Trainer(model, optimizer).step(X, Y)
    assert equal(*models) and not equal(models[0], network())


@pytest.mark.parametrize("name", ["vgg", "tokens"])
def test_groups_of_layers(name):
    names = {
        "vgg": ["stem.weight", "features.0.weight", "features.0.norm.bias", "features.3.0.weight", "head.weight"],
        "tokens": ["cls_token", "pos_embed", "blocks.0.norm.weight", "blocks.0.fc.weight", "norm.weight", "head.bias"],
    }[name]
    model = fc.layers.Layer()
    for full in names:
        *path, last = full.split(".")
        layer = model
        for part in path:
            if part not in dict(layer.named_children()):
                setattr(layer, part, fc.layers.Layer())
            layer = getattr(layer, part)
        is_row = last == "bias" or "norm" in full
        setattr(layer, last, fc.layers.Parameter(np.zeros(3 if is_row else (1, 3, 3))))
    groups = fc.training.parameter_groups(model, 1.0, 0.1, layer_decay=0.5)
    optimizer = fc.SGD(groups=groups)
    found = [optimizer.rate_and_decay(optimizer.group_of(full)) for full in names]
    expected = {
        "vgg": [(0.125, 0.1), (0.25, 0.1), (0.25, 0), (0.5, 0.1), (1, 0.1)],
        "tokens": [(0.25, 0), (0.25, 0), (0.5, 0), (0.5, 0.1), (1, 0), (1, 0)],
    }
    assert found == expected[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_decay": 0}, "layer_decay=0, expected a number above 0"),
        ({"model": ()}, "model: got tuple, expected a Layer"),
        ({"learning_rate": "fast"}, "learning_rate='fast', expected a number"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0, expected a number from 0 to below infinity"),
        ({"no_decay": "*bias"}, r"no_decay='\*bias', expected a sequence of patterns"),
        ({"no_decay": [1]}, r"no_decay=\[1\], expected a sequence of patterns"),
    ],
)
def test_groups_of_bad_arguments(arguments, message):
    good = {"model": fc.Linear(2, 1), "learning_rate": 0.1, "weight_decay": 0.1}
    with pytest.raises((TypeError, ValueError), match=f"parameter_groups: {message}"):
        fc.training.parameter_groups(**{**good, **arguments})


def test_betas_are_two_numbers():
    for kind in (fc.Adam, fc.LAMB, fc.Lion):
        for betas in (np.array(0.9), np.full((2, 1), 0.9), [0.9], [None, [1], 2]):
            with pytest.raises(TypeError, match=rf"{kind.__name__}: betas=[\s\S]*, expected two numbers"):
                kind(betas=betas)


@pytest.mark.parametrize("kind", [fc.LAMB, fc.Lion])
def test_directions_of_convolutions(isa, poisoned, kind):
    """Stored in blocks of channels, whose unfilled lanes count nothing; a parameter of zeros moves as well."""
    rate, decay = 0.01, 0.1
    models = network(), network()
    for model in models:
        model[4].weight = np.zeros(model[4].weight.shape)
    before = {name: array.astype(np.float64) for name, array in models[0].named_parameters()}
    fc.Trainer(models[0], kind(rate, weight_decay=decay, groups={"*.bias": {"weight_decay": 0}})).step(X, Y)
    fc.Trainer(models[1], fc.SGD(1.0)).step(X, Y)
    for (name, found), (_, after) in zip(*(model.named_parameters() for model in models), strict=True):
        p, own = before[name], 0.0 if name.endswith("bias") else decay
        g = p - after
        if kind is fc.Lion:
            expected = p - rate * (np.sign(g) + own * p)
            unclear = np.abs(g) < 1e-6
            expected[unclear] = found[unclear]
        else:
            u = g / (np.abs(g) + 1e-6) + own * p
            length = np.linalg.norm(p)
            expected = p - rate * (length / np.linalg.norm(u) if own and length else 1) * u
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5, err_msg=name)


def test_bad_groups_are_refused():
    with pytest.raises(TypeError, match=r"groups: 3, expected a pattern of names, or a tuple of patterns"):
        fc.Adam(groups={3: {"learning_rate": 1}})
    with pytest.raises(ValueError, match="no parameter belongs to 'head"):
        fc.Trainer(network(), fc.Adam(groups={"head.*": {"learning_rate": 1}}))
    with pytest.raises(ValueError, match="'momentum', expected one of learning_rate"):
        fc.Adam(groups={"4.*": {"momentum": 1}})
    with pytest.raises(ValueError, match="weight_decay.*expected a number from 0"):
        fc.SGD(groups={"4.*": {"weight_decay": -1}})
    with pytest.raises(TypeError, match="expected a mapping"):
        fc.SGD(groups=[1])


# -- weights of inputs, and losses of one's own -------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse"])
def test_a_weight_of_two_is_an_input_given_twice(isa, loss):
    y = Y if loss == "cross_entropy" else np.eye(4, dtype=np.float32)[Y]
    weights = RNG.integers(0, 3, 12)
    models = network(), network()
    weighted, repeated = (fc.Trainer(model, fc.SGD(0.1), loss) for model in models)
    many = np.repeat(np.arange(12), weights)
    for _ in range(3):
        loss_of_weighted = weighted.step(X, y, sample_weight=weights)
        assert loss_of_weighted == pytest.approx(repeated.step(X[many], y[many]), rel=1e-5)
    assert_close(*models)


class Normalised(fc.Model):
    """With batch normalisation and dropout, whose forward pass must be the same outside."""

    def __init__(self):
        with fc.layers.seeded(0):
            self.conv, self.bn = fc.Conv2d(3, 8, 3, stride=2), fc.BatchNorm2d(8)
            self.rest = fc.Sequential(fc.ReLU(), fc.Flatten(), fc.Dropout(0.5), fc.Linear(72, 4))

    def forward(self, x):
        return self.rest(self.bn(self.conv(x)))


def test_a_function_is_as_good_as_the_loss_it_computes(isa, poisoned):
    def function(scores, y):
        return -scores.log_softmax()[np.arange(len(y)), y].mean()

    models = Normalised(), Normalised()
    trainers = [
        fc.Trainer(model, fc.SGD(0.1), loss) for model, loss in zip(models, ("cross_entropy", function), strict=True)
    ]
    for _ in range(3):
        losses = [trainer.step(X, Y) for trainer in trainers]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        np.testing.assert_allclose(trainers[0].outputs, trainers[1].outputs, rtol=1e-4, atol=1e-5)
    assert_close(*models)
    states = [model.state_dict() for model in models]
    np.testing.assert_allclose(states[0]["bn.running_mean"], states[1]["bn.running_mean"], rtol=1e-4, atol=1e-6)


def test_a_function_may_bring_its_gradient():
    def function(scores, y):
        scores = scores.data
        return float((scores**2).mean()), 2 * scores / scores.size

    models = network(), network()
    own, known = fc.Trainer(models[0], fc.SGD(0.1), function), fc.Trainer(models[1], fc.SGD(0.1), "mse")
    assert own.step(X, Y) == pytest.approx(known.step(X, np.zeros((12, 4))), rel=1e-5)
    assert_close(*models)


def test_bad_weights_are_refused():
    trainer = fc.Trainer(network(), fc.SGD(0.1))
    for weights in ([1] * 11, [-1] * 12, [[1]] * 12):
        with pytest.raises(ValueError, match="sample_weight.shape=.*expected one number >= 0 for each of 12"):
            trainer.step(X, Y, sample_weight=weights)
    with pytest.raises(TypeError, match="update=1, expected True or False"):
        trainer.step(X, Y, update=1)
    assert trainer.steps == 0
