"""Photos that reach the first layer as pixels: the same bits as numbers that were made in NumPy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import helper

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.compiler import batch, plan
from fastcnn.compiler.network import is_resolved
from fastcnn.io.image import Preprocess
from fastcnn.io.preprocess import Pixels
from fastcnn.training.data import Dataset
from fastcnn.training.folders import PhotoSource

# An odd number of bytes in a photo, and channels that differ.
SIZE = (9, 7)
PREPROCESS = Preprocess(SIZE, 1.0, "bilinear", (120.5, 99.0, 103.53), (58.395, 110.1, 127.0))
PHOTOS = np.random.default_rng(0).integers(0, 256, (16, *SIZE, 3), np.uint8)


class Own(Preprocess):
    """A user's own: it may do anything."""


class Layers(fc.Model):
    """Some first layers, and a classifier."""

    def __init__(self, *layers):
        self.layers = fc.Sequential(*layers)
        shape = self.layers.graph((3, *SIZE)).infer({"x": (1, 3, *SIZE)})
        features = np.prod(list(shape.values())[-1][1:]).item()
        self.head = fc.Linear(features, 4, rng=1)

    def forward(self, x):
        return self.head(F.flatten(self.layers(x)))


class Reads(fc.Model):
    """x is read in several layouts: as planes, as pixels with halo, in blocks."""

    def __init__(self):
        self.conv = fc.Conv2d(3, 16, 3, padding=1)
        self.depthwise = fc.Conv2d(3, 3, 3, padding=1, groups=3)
        self.last = fc.Conv2d(19, 4, (3, 2), padding=(0, 2, 1, 0))
        self.head = fc.Linear(3, 4)

    def forward(self, x):
        y = self.last(F.concat([self.conv(x), x + self.depthwise(x)]))
        whole = F.flatten(F.global_avg_pool2d(x))
        return F.flatten(F.global_avg_pool2d(y)) + self.head(whole)


class JoinsItself(fc.Model):
    """A copy of x is written straight into a concatenation, with a halo."""

    def __init__(self):
        self.conv = fc.Conv2d(3, 16, 1)
        self.last = fc.Conv2d(19, 4, 3, padding=1)

    def forward(self, x):
        return F.flatten(F.global_avg_pool2d(self.last(F.concat([self.conv(x), x]))))


NETWORKS = {
    "3x3, stride 2": lambda: Layers(fc.Conv2d(3, 20, 3, stride=2, padding=1), fc.ReLU()),
    "7x7, stride 2": lambda: Layers(fc.Conv2d(3, 8, 7, stride=2, padding=3)),
    "3x3": lambda: Layers(fc.Conv2d(3, 16, 3, padding=1), fc.BatchNorm2d(16), fc.ReLU(), fc.MaxPool2d(2)),
    "odd padding": lambda: Layers(fc.Conv2d(3, 5, 3, stride=2, padding=(0, 1, 2, 3))),
    "1x1": lambda: Layers(fc.Conv2d(3, 16, 1)),
    "im2col": lambda: Layers(fc.Conv2d(3, 16, 3, padding=1, algorithm="im2col")),
    "winograd": lambda: Layers(fc.Conv2d(3, 16, 3, padding=1, algorithm="winograd")),
    "depthwise": lambda: Layers(fc.Conv2d(3, 3, 3, padding=1, groups=3), fc.Conv2d(3, 8, 1)),
    "max pool": lambda: Layers(fc.MaxPool2d(3, 2, padding=1), fc.Conv2d(3, 8, 3)),
    "average": lambda: Layers(fc.GlobalAvgPool2d()),
    "linear": lambda: Layers(),
    "activation": lambda: Layers(fc.Sigmoid(), fc.Conv2d(3, 8, 3)),
    "norm": lambda: Layers(fc.BatchNorm2d(3)),
    "several readers": Reads,
    "concatenation": JoinsItself,
}


def scores(model, photos, preprocess=PREPROCESS):
    """What the network makes of photos that come as pixels."""
    x = Pixels(photos, preprocess)
    return model._cache.get(model, x.shape, preprocess).run(x)


def takes_pixels(model, images):
    """Whether photos go into the plan as they are."""
    plan = model._cache.get(model, (images, 3, *SIZE), PREPROCESS).plan
    assert plan.takes_pixels == (plan.steps[0].kernel == "lookup")
    return plan.takes_pixels


@pytest.mark.parametrize("network", NETWORKS)
def test_bits_are_those_of_numbers(network, isa, poisoned, monkeypatch):
    monkeypatch.setattr(plan, "OPERATIONS_PER_THREAD", 1)
    monkeypatch.setattr(batch, "part_size", lambda size, *_: 1)
    model = NETWORKS[network]()
    x = Pixels(PHOTOS, PREPROCESS).numbers()
    assert np.array_equal(
        x[3],
        (PHOTOS[3].transpose(2, 0, 1).astype(np.float32) - np.float32(PREPROCESS.mean)[:, None, None])
        / np.float32(PREPROCESS.std)[:, None, None],
    )
    for images in (1, 2, 5, 16):  # 16 in parts
        for threads in (1, 2, 3):
            with fc.num_threads(threads):
                expected = model(x[:images])
                for _ in range(2):  # the second run finds the arena as the first has left it
                    assert scores(model, PHOTOS[:images]).tobytes() == expected.tobytes(), (images, threads)
        assert takes_pixels(model, images)


def test_no_layer_at_all_and_weights_from_the_photo(isa, poisoned):
    """Outputs lie in the caller's memory; filters are packed by a step."""

    class Whole(fc.Model):
        def forward(self, x):
            return x

    class Filters(fc.Model):
        def __init__(self):
            self.image = fc.layers.Parameter(np.random.default_rng(1).random((1, 3, 12, 12), np.float32))

        def forward(self, x):
            return F.conv2d(self.image, x)

    for model in (Whole(), Filters()):
        assert takes_pixels(model, 2)
        assert np.array_equal(scores(model, PHOTOS[:2]), model(Pixels(PHOTOS[:2], PREPROCESS).numbers()))


def test_photos_however_they_lie(isa):
    model = NETWORKS["3x3, stride 2"]()
    model.preprocess = Own(SIZE, 0.8)
    photo = np.random.default_rng(1).integers(0, 256, (40, 31, 3), np.uint8)
    expected = model.classify(photo)
    model.preprocess = Preprocess(SIZE, 0.8)
    wide = np.repeat(photo, 2, axis=1)[:, ::2]
    fixed = np.asfortranarray(photo)
    fixed.flags.writeable = False
    grey = np.repeat(photo[..., :1], 3, axis=2)
    for same in (photo, wide, fixed, photo[::-1, ::-1].copy()[::-1, ::-1], np.dstack([photo, photo[..., :1]])):
        assert model.classify(same) == expected
    assert model.classify(photo[..., 0]) == model.classify(grey) != expected
    assert np.array_equal(scores(model, np.asfortranarray(PHOTOS)), scores(model, PHOTOS))


def test_one_call_to_classify_makes_no_numbers(monkeypatch):
    model = NETWORKS["7x7, stride 2"]()
    model.preprocess = PREPROCESS
    expected = model.classify(PHOTOS[0])
    monkeypatch.setattr(Pixels, "numbers", None)
    assert model.classify(PHOTOS[0]) == expected
    assert model.predict_proba(Pixels(PHOTOS, PREPROCESS), batch_size=5).shape == (16, 4)


def test_plans_follow_preprocessing_and_weights():
    model = NETWORKS["linear"]()
    model.preprocess = PREPROCESS
    before = model.classify(PHOTOS[0])
    model.preprocess = Preprocess(SIZE, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 255.0, 255.0))
    assert model.classify(PHOTOS[0]) != before
    model.preprocess = PREPROCESS
    assert model.classify(PHOTOS[0]) == before
    for preprocess in (PREPROCESS, Preprocess(SIZE), PREPROCESS):
        assert np.array_equal(scores(model, PHOTOS, preprocess), model(Pixels(PHOTOS, preprocess).numbers()))
    model.head.bias = [0.0, 0.0, 0.0, 50.0]
    assert model.classify(PHOTOS[0])[0].index == 3


def test_what_users_have_written_gets_numbers():
    class Flipped(Layers):
        def predict_proba(self, x, batch_size=32, progress=False):
            return super().predict_proba(x[..., ::-1], batch_size, progress)

    model, plain = Flipped(fc.Conv2d(3, 4, 3, rng=1)), Layers(fc.Conv2d(3, 4, 3, rng=1))
    model.preprocess = plain.preprocess = PREPROCESS
    mirrored = np.ascontiguousarray(PHOTOS[:, :, ::-1])
    assert model.classify(PHOTOS[0]) == plain.classify(mirrored[0])
    data, other = (Dataset.of(PhotoSource(photos, PREPROCESS), np.arange(16) % 4) for photos in (PHOTOS, mirrored))
    assert model.evaluate(data, batch_size=5).to_dict() == plain.evaluate(other, batch_size=5).to_dict()
    model.preprocess = plain.preprocess = lambda photo: np.ones((1, 3, *SIZE))
    assert model.classify(PHOTOS[0]) == plain.classify(PHOTOS[1])


def test_evaluation_reads_pixels(monkeypatch):
    model = NETWORKS["depthwise"]()
    targets = np.arange(16) % 4
    slow = model.evaluate(Dataset.of(PhotoSource(PHOTOS, Own(SIZE, 1.0)), targets), batch_size=5)
    monkeypatch.setattr(Pixels, "numbers", None)
    fast = model.evaluate(Dataset.of(PhotoSource(PHOTOS, Preprocess(SIZE, 1.0)), targets), batch_size=5)
    assert fast.to_dict() == slow.to_dict()


def exported(path, with_numpy, images):
    """A network for images of any size as PyTorch exports it, flattened to a shape that is computed; with an operation
    that has no kernel, if wanted."""
    rng = np.random.default_rng(3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], name="conv", pads=[1, 1, 1, 1])]
    nodes.append(helper.make_node("Sin" if with_numpy else "Relu", ["h"], ["a"], name="act"))
    nodes += [
        helper.make_node("Shape", ["a"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "zero"], ["n"], name="n", axis=0),
        helper.make_node("Concat", ["n", "minus"], ["rows"], name="rows", axis=0),
        helper.make_node("Reshape", ["a", "rows"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "m"], ["y"], name="head"),
    ]
    tensors = [
        build.tensor("w", rng.standard_normal((8, 3, 3, 3)).astype(np.float32)),
        build.tensor("m", rng.standard_normal((8 * SIZE[0] * SIZE[1], 4)).astype(np.float32)),
        build.tensor("zero", np.array([0])),
        build.tensor("minus", np.array([-1])),
    ]
    x, y = build.value("x", (images, 3, "H", "W")), build.value("y", (images, 4))
    onnx.save(build.model(nodes, [x], [y], tensors), path)
    return fc.load(path)


@pytest.mark.parametrize("images", ["N", 1])
@pytest.mark.parametrize("with_numpy", [False, True])
def test_general_graphs(with_numpy, images, tmp_path):
    model = exported(tmp_path / "net.onnx", with_numpy, images)
    assert not is_resolved(model.graph((3, *SIZE)))
    for size in (1, 3, 16):
        x = Pixels(PHOTOS[:size], PREPROCESS)
        assert np.array_equal(scores(model, x.values), model(x.numbers()))
        assert takes_pixels(model, size)


def test_networks_for_other_channels_say_so():
    model = fc.Sequential(fc.Conv2d(1, 4, 3), fc.GlobalAvgPool2d(), fc.Flatten())
    model.preprocess = PREPROCESS
    with pytest.raises(ValueError, match=r"layer '0' \(Conv2d\): conv2d: .*expected") as direct:
        model.classify(PHOTOS[0])
    model.preprocess = Own(SIZE)
    with pytest.raises(ValueError) as through_numbers:
        model.classify(PHOTOS[0])
    assert str(direct.value) == str(through_numbers.value)


def test_concurrent_callers_share_a_model(isa):
    model = NETWORKS["3x3"]()
    model.preprocess = PREPROCESS
    expected = [model.classify(photo) for photo in PHOTOS]
    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(lambda i: model.classify(PHOTOS[i % 16]), range(160))):
            assert found == expected[number % 16]
