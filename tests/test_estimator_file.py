"""What an `ImageClassifier` has learned is what its model is, in memory, as a pickle and as a file of any format."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc
from fastcnn import ImageClassifier, ModelLoadError
from fastcnn.cli import main
from fastcnn.graph.ir import Graph, Node
from fastcnn.graph_network import GraphNetwork

RNG = np.random.default_rng(0)
NAMES = np.array(["above", "below"])


def photos(count=48):
    """uint8 (N, 10, 8, 3), bright in the upper or the lower half."""
    images = RNG.integers(0, 120, (count, 10, 8, 3), dtype=np.uint8)
    halves = np.arange(count) % 2
    images[halves == 0, :5] += 100
    images[halves == 1, 5:] += 100
    return images, NAMES[halves]


@pytest.fixture(scope="module")
def fitted():
    x, y = photos()
    return ImageClassifier(epochs=6, random_state=0).fit(x, y), x


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_the_saved_network_predicts_as_the_classifier(fitted, tmp_path, suffix):
    classifier, x = fitted
    classifier.model_.save(tmp_path / f"c.{suffix}")
    model = fc.load(tmp_path / f"c.{suffix}")
    for form in (x, x.transpose(0, 3, 1, 2)):
        np.testing.assert_allclose(model.predict_proba(form), classifier.predict_proba(x), rtol=1e-6)
        np.testing.assert_array_equal(model.predict(form), classifier.predict(x))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(form), classifier.predict(x))
    assert (model.classes, model.task) == (["above", "below"], "single_label")
    assert classifier.score(x, NAMES[np.arange(48) % 2]) == 1


def test_other_engines_take_the_same_numbers(fitted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    classifier, x = fitted
    classifier.save(tmp_path / "c.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "c.onnx"))
    (scores,) = session.run(None, {session.get_inputs()[0].name: x.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_allclose(fc.functional.softmax(scores), classifier.predict_proba(x), atol=1e-5)


def test_the_command_line_takes_it(fitted, tmp_path, capsys):
    classifier, x = fitted
    classifier.save(tmp_path / "c.safetensors")
    Image.fromarray(x[0]).save(tmp_path / "photo.png")
    assert main(["classify", "--model", str(tmp_path / "c.safetensors"), str(tmp_path / "photo.png")]) == 0
    assert "%  above\n" in capsys.readouterr().out.split("\n", 1)[1]
    probabilities = classifier.predict_proba([tmp_path / "photo.png"])
    np.testing.assert_allclose(probabilities, classifier.predict_proba(x[:1]), rtol=1e-6)


@pytest.mark.parametrize("labels", [[3, 5], [0, 1], [False, True], ["a", "b"], [1.0, 2.0]])
def test_a_classifier_comes_back_with_its_labels(labels, tmp_path):
    x, y = RNG.random((20, 4)) * [1, 100, 1, 1], np.array(labels)[np.arange(20) % 2]
    classifier = ImageClassifier(epochs=2, batch_size=7, random_state=0).fit(x, y)
    classifier.save(tmp_path / "c.safetensors")
    again = ImageClassifier.load(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(again.predict_proba(x), classifier.predict_proba(x))
    assert again.predict(x).tolist() == classifier.predict(x).tolist()
    assert again.classes_.tolist() == labels and type(again.classes_.tolist()[0]) is type(labels[0])
    assert (again.n_iter_, again.loss_curve_, again.batch_size) == (2, classifier.loss_curve_, 7)
    assert again.partial_fit(x, y).n_iter_ == 3
    with pytest.raises(ValueError, match="X has 5 features, but ImageClassifier is expecting 4"):
        again.predict(np.zeros((1, 5)))


def test_pickles_of_version_0_1_scale_as_they_did(fitted):
    classifier, x = fitted
    old = pickle.loads(pickle.dumps(classifier))
    mean, deviation = old.model_.scaling
    old.model_.scaling = None
    state = {name: value for name, value in vars(old).items() if name not in ("_takes_photos", "_shape")}
    again = ImageClassifier.__new__(ImageClassifier)
    again.__setstate__({**state, "_scale": (mean.reshape(-1, 1, 1), deviation.reshape(-1, 1, 1))})
    np.testing.assert_array_equal(again.predict_proba(x), classifier.predict_proba(x))


@pytest.mark.parametrize("augment", [None, fc.Augment(mixup=0.2, flip=False, crop=1, rotation=0)])
def test_a_network_of_one_output_tells_two_classes(augment, tmp_path):
    def build(shape, classes):
        return fc.Sequential(fc.Flatten(), fc.Linear(240, 1, rng=0))

    x, y = photos(40)
    classifier = ImageClassifier(build, epochs=8, augment=augment, random_state=0).fit(x, y)
    assert classifier.score(x, y) == 1 and classifier.predict_proba(x).shape == (40, 2)
    classifier.save(tmp_path / "c.safetensors")
    again = ImageClassifier.load(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(again.predict(x), y)
    assert again.partial_fit(x, y).model_.task == "binary" and again.score(x, y) == 1
    with pytest.raises(ValueError, match="network has 1 outputs, expected 3, one for each class"):
        ImageClassifier(build).fit(x, np.arange(40) % 3)


def test_any_model_becomes_a_classifier(tmp_path):
    model = fc.zoo.lenet(num_classes=3)
    model.save(tmp_path / "m.safetensors")
    classifier = ImageClassifier.load(tmp_path / "m.safetensors")
    x = RNG.random((4, 28, 28))
    np.testing.assert_array_equal(classifier.predict_proba(x), model.predict_proba(x[:, None]))
    assert classifier.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"classes": ["a"]}', '{"classes": 5}', '{"shape": ["x"]}', '{"kind": "O", "classes": ["a", "b"]}'],
)
def test_damaged_metadata_are_named(fitted, tmp_path, text):
    from fastcnn.model_format import save

    save(fitted[0].model_, tmp_path / "c.safetensors", text)
    with pytest.raises(ModelLoadError, match="metadata 'estimator'"):
        ImageClassifier.load(tmp_path / "c.safetensors")


def test_a_network_with_scaling_keeps_it(fitted, tmp_path):
    """Whoever goes on from a saved network goes on with the numbers that it has learned from."""
    classifier, x = fitted
    classifier.save(tmp_path / "c.safetensors")
    dark = x // 2
    again = ImageClassifier(fc.load(tmp_path / "c.safetensors"), epochs=1).fit(dark, NAMES[np.arange(48) % 2])
    for part, known in zip(again.model_.scaling, classifier.model_.scaling, strict=True):
        np.testing.assert_array_equal(part, known)


def test_scaling_is_a_part_of_any_network(tmp_path):
    inner = fc.Sequential(
        fc.Conv2d(3, 4, 3, rng=0), fc.ReLU(), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(4, 2, rng=0)
    )
    x = RNG.integers(0, 255, (5, 3, 8, 8)).astype(np.uint8)
    expected = inner((x - 100.0) / 50)
    inner.input_shape, inner.scaling = (3, 8, 8), (np.full(3, 100), np.full(3, 50))
    outer = fc.Sequential(inner, fc.Linear(2, 2, rng=1))
    np.testing.assert_allclose(inner(x), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(outer(x), outer[1](expected), rtol=1e-5, atol=1e-7)
    losses = [inner.fit(x, [0, 1, 0, 1, 0], epochs=2)["loss"]]
    inner.save(tmp_path / "n.safetensors")
    inner.save(tmp_path / "n.onnx")
    for name in ("n.safetensors", "n.onnx"):
        model = fc.load(tmp_path / name)
        assert [part.tolist() for part in model.scaling] == [[100] * 3, [50] * 3]
        assert not {name for name, _ in model.named_parameters()} - {name for name, _ in inner.named_parameters()}
        losses.append(model.fit(x, [0, 1, 0, 1, 0], epochs=2)["loss"])
    assert losses[1] == losses[2]
    inner.scaling = None
    assert inner.scaling is None and "scaling_mean" not in inner.state_dict()
    with pytest.raises(ValueError, match="scaling: shapes"):
        inner.scaling = [1.0, 2.0], [1.0]
    with pytest.raises(TypeError, match="expected a pair"):
        inner.scaling = 5


def test_a_network_of_general_operations_scales_once():
    graph = Graph([Node("ai.onnx::Relu", "a", ("x",), "y", {})], {"x": (None, 3, 4, 4)}, ["y"], {})
    network = GraphNetwork(graph)
    network.scaling = [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]
    x = np.random.default_rng(0).normal(2, 9, (5, 3, 4, 4)).astype(np.float32)
    mean, deviation = (part.reshape(3, 1, 1) for part in network.scaling)
    expected = np.maximum((x - mean) / deviation, 0)
    for form in (network, fc.Sequential(network)):  # the second is traced, as for training
        assert np.allclose(form(x), expected, atol=1e-5)
    network.scaling = None
    assert np.array_equal(network(x), np.maximum(x, 0))


def test_the_suffix_chooses_the_format(tmp_path):
    model = fc.zoo.lenet()
    model.save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes()[:2] == b"\x08\x08" and fc.load(tmp_path / "m.onnx").input_shape == (
        1,
        28,
        28,
    )
    with pytest.raises(
        ValueError, match=r"m\.bin: unknown format, expected a name that ends in \.safetensors or \.onnx"
    ):
        model.save(tmp_path / "m.bin")
    assert not (tmp_path / "m.bin").exists()


def test_constants_of_forward_methods_are_not_trained(tmp_path):
    class Halved(fc.Model):
        def __init__(self):
            self.fc = fc.Linear(2, 2)

        def forward(self, x):
            return self.fc(x * np.float32([0.5, 0.5]))

    model = Halved()
    model.input_shape = (2,)
    model.save(tmp_path / "m.safetensors")
    assert [name for name, _ in fc.load(tmp_path / "m.safetensors").named_parameters()] == ["fc.weight", "fc.bias"]


# -- inputs of another kind than those that were learned from ----------------------------------------


def test_other_shapes_are_refused():
    x, y = RNG.random((20, 8, 8)), np.arange(20) % 2
    classifier = ImageClassifier(epochs=1).fit(x, y)
    with pytest.raises(
        ValueError, match=r"inputs are \(1, 4, 16\), but ImageClassifier was fit on inputs of \(1, 8, 8\)"
    ):
        classifier.predict(x.reshape(20, 4, 16))
    with pytest.raises(ValueError, match=r"\(64,\), but ImageClassifier was fit on inputs of \(1, 8, 8\)"):
        classifier.partial_fit(x.reshape(20, 64), y)
    with pytest.raises(ValueError, match="X holds files, expected arrays"):
        classifier.predict(["photo.jpg"])


def test_numbers_for_a_network_of_photos_are_refused(tmp_path):
    x, y = photos(8)
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path, pixels in zip(paths, x, strict=True):
        Image.fromarray(pixels).save(path)
    classifier = ImageClassifier(epochs=1, input_shape=(3, 10, 8), random_state=0).fit(paths, y)
    np.testing.assert_array_equal(classifier.predict_proba(x), classifier.predict_proba(paths))
    with pytest.raises(ValueError, match="expected files, or uint8"):
        classifier.predict(x / 255.0)


class Frame:
    """As much of a data frame as is needed: names of columns, and numbers."""

    def __init__(self, numbers, columns):
        self.numbers, self.columns = numbers, columns
        self.shape = numbers.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numbers, dtype)

    def __len__(self):
        return len(self.numbers)


def test_names_of_columns_are_kept_and_compared():
    x, y = RNG.random((20, 3)), np.arange(20) % 2
    classifier = ImageClassifier(epochs=1).fit(Frame(x, ["a", "b", "c"]), y)
    assert classifier.feature_names_in_.tolist() == ["a", "b", "c"]
    assert classifier.predict(Frame(x, ["a", "b", "c"])).shape == (20,)
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        classifier.predict(Frame(x, ["b", "a", "c"]))
    with pytest.raises(
        ValueError, match="unseen at fit time:\n- d\nFeature names seen at fit time, yet now missing:\n- c"
    ):
        classifier.predict(Frame(x, ["a", "b", "d"]))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        classifier.predict(x)
    with pytest.warns(UserWarning, match="X has feature names, but ImageClassifier was fitted without"):
        ImageClassifier(epochs=1).fit(x, y).predict(Frame(x, ["a", "b", "c"]))
    with pytest.raises(TypeError, match="must convert them all to strings"):
        classifier.fit(Frame(x, ["a", 1, "c"]), y)
    assert not hasattr(ImageClassifier(epochs=1).fit(Frame(x, [0, 1, 2]), y), "feature_names_in_")
