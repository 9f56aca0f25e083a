"""Folders of timm and transformers: their weights, labels and preprocessing, or a refusal in a line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from photos import noise

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.errors import FastcnnWarning, ModelLoadError
from fastcnn.io.foreign_preprocess import preprocess_of_timm, preprocess_of_transformers
from fastcnn.io.image import Preprocess
from fastcnn.io.weights import write_safetensors
from fastcnn.model_folder import _zoo_name

LABELS = ["cat", "dog", "owl"]
X = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def network():
    return fc.zoo.resnet18(num_classes=3, rng=0)


def timm_config(**changes):
    cfg = {"input_size": [3, 64, 64], "crop_pct": 0.95, "interpolation": "bicubic", "mean": MEAN, "std": STD}
    config = {"architecture": "resnet18", "num_classes": 3, "label_names": LABELS, "global_pool": "avg"}
    return {**config, "pretrained_cfg": {**cfg, "crop_mode": "center", "num_classes": 3}, **changes}


RESNET = {
    "architectures": ["ResNetForImageClassification"],
    "model_type": "resnet",
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [64, 128, 256, 512],
    "layer_type": "basic",
    "embedding_size": 64,
    "hidden_act": "relu",
    "id2label": dict(zip("012", LABELS, strict=True)),
}
CONVNEXT = {
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "size": 64,
    "crop_pct": 0.875,
    "resample": 3,
    "image_mean": MEAN,
    "image_std": STD,
}


def transformers_name(name):
    """The name that transformers gives an array of torchvision's."""
    parts = name.split(".")
    kind = {"c": "convolution", "b": "normalization"}
    if parts[0] in ("conv1", "bn1"):
        return f"resnet.embedder.embedder.{kind[parts[0][0]]}.{parts[1]}"
    if parts[0] == "fc":
        return f"classifier.1.{parts[1]}"
    start = f"resnet.encoder.stages.{int(parts[0][-1]) - 1}.layers.{parts[1]}"
    if parts[2] == "downsample":
        return f"{start}.shortcut.{('convolution', 'normalization')[int(parts[3])]}.{parts[4]}"
    return f"{start}.layer.{int(parts[2][-1]) - 1}.{kind[parts[2][0]]}.{parts[3]}"


def folder_of(path, config, state=None, processor=None, rename=str):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    if state is not None:
        arrays = {rename(name): array for name, array in state.items()}
        counter = rename("bn1.running_var").replace("running_var", "num_batches_tracked")
        write_safetensors(path / "model.safetensors", arrays | {counter: np.int64([7])})
    return path


@pytest.mark.parametrize("form", ["timm", "wrapped timm", "transformers"])
def test_weights_labels_and_preprocessing(form, network, tmp_path, capsys):
    if form == "transformers":
        folder = folder_of(tmp_path / "m", RESNET, network.state_dict(), CONVNEXT, transformers_name)
        fraction = 0.875
    else:
        prefix = "timm_model." * (form != "timm")
        folder = folder_of(tmp_path / "m", timm_config(), network.state_dict(), None, lambda name: prefix + name)
        fraction = 0.95
    model = fc.load(folder)
    np.testing.assert_allclose(model(X), network(X), rtol=1e-4, atol=1e-4)
    assert (model.classes, model.input_shape, model.task) == (LABELS, (3, 64, 64), None)
    scaled = [tuple(255 * value for value in values) for values in (MEAN, STD)]
    assert model.preprocess == Preprocess(64, fraction, "bicubic", *scaled)
    assert set(model.state_dict()) == set(network.state_dict())
    if form == "timm":
        photo = str(tmp_path / "photo.png")
        from PIL import Image

        Image.fromarray(noise(80, 70, 3)).save(photo)
        assert main(["classify", "--model", str(folder), photo, "--json"]) == 0
        (entry,) = json.loads(capsys.readouterr().out)
        assert entry["predictions"][0]["label"] == model.classify(photo)[0].label
        assert main(["info", str(folder)]) == 0 and "classes: 3" in capsys.readouterr().out
        assert main(["convert", str(folder), str(tmp_path / "m.safetensors")]) == 0
        assert fc.load(tmp_path / "m.safetensors").classes == LABELS


def test_deeper_networks_have_their_names_too():
    for name in fc.zoo.resnet50(num_classes=2).state_dict():
        assert _zoo_name(transformers_name(name)) == name


@pytest.mark.parametrize("place", ["model.onnx", "net.onnx", "onnx/model.onnx"])
def test_an_onnx_file_takes_any_network(place, tmp_path):
    network = fc.Sequential(fc.Conv2d(3, 4, 3, rng=0), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(4, 3, rng=0))
    network.input_shape = (3, 64, 64)
    config = {**RESNET, "architectures": ["ViTForImageClassification"], "problem_type": "multi_label_classification"}
    vit = {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 64, "width": 64}, "resample": 2}
    folder = folder_of(tmp_path / "m", config, None, {**vit, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    (folder / place).parent.mkdir(exist_ok=True)
    network.export_onnx(folder / place)
    model = fc.load(folder)
    np.testing.assert_allclose(model(X), network(X), rtol=1e-5)
    assert (model.classes, model.task) == (LABELS, "multi_label")
    assert model.preprocess == Preprocess(64, 1.0, "bilinear", (127.5,) * 3, (127.5,) * 3, "stretch")
    (folder / "a.onnx").write_bytes(b"")
    (folder / "b.onnx").write_bytes(b"")
    if "model" not in place:
        with pytest.raises(ModelLoadError, match="3 ONNX files, expected one"):
            fc.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["ViTForImageClassification"]}, "ViTForImageClassification is no network that fastcnn has"),
        ({**RESNET, "depths": [3, 4, 23, 3]}, "ResNetForImageClassification is no network"),
        ({**RESNET, "downsample_in_bottleneck": True}, "ResNetForImageClassification is no network"),
        ({**RESNET, "hidden_act": "gelu"}, "ResNetForImageClassification is no network"),
        (timm_config(architecture="vit_base_patch16_224"), "vit_base_patch16_224 is no network"),
        (timm_config(model_args={"stem_type": "deep"}), "resnet18 is no network"),
        (RESNET, "no weights, expected model.safetensors"),
        ({**RESNET, "id2label": {"0": "a", "2": "b"}}, "id2label, expected a name for each number"),
        ({**RESNET, "id2label": ["a"]}, "id2label, expected a name for each number"),
        ([], "a list, expected an object of JSON"),
        ({}, "None is no network that fastcnn has"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(config, message, tmp_path, capsys):
    folder = folder_of(tmp_path / "m", config)
    with pytest.raises(ModelLoadError, match=message) as caught:
        fc.load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert main(["info", str(folder)]) == 2 and message in capsys.readouterr().err


def test_damaged_folders_are_refused(network, tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(OSError, match="a folder, expected a regular file"):
        fc.load(tmp_path / "m")
    for text in ("", "{", "[" * 100_000, "\xff"):
        (tmp_path / "m" / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(ModelLoadError, match=r"config\.json"):
            fc.load(tmp_path / "m")
    state = network.state_dict()
    folder = folder_of(tmp_path / "m", timm_config(label_names=["a", "b"]), state)
    with pytest.raises(ModelLoadError, match="2 names of classes, but model.safetensors has 3 outputs"):
        fc.load(folder)
    folder_of(tmp_path / "m", timm_config(label_names=[1, 2, 3]))
    with pytest.raises(ModelLoadError, match="classes: expected a sequence of str"):
        fc.load(folder)
    folder_of(tmp_path / "m", timm_config())
    with pytest.raises(ModelLoadError, match="model.safetensors"):
        fc.load(folder, max_bytes=1 << 20)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelLoadError):
        fc.load(folder)
    write_safetensors(folder / "model.safetensors", {"head.weight": np.zeros((3, 4), np.float32)})
    with pytest.raises(ModelLoadError, match="model.safetensors has not the weights of resnet18"):
        fc.load(folder)


def test_preprocessing_that_is_not_known_is_told_and_left_out(network, tmp_path):
    processor = {"image_processor_type": "LevitImageProcessor", "size": 64}
    folder = folder_of(tmp_path / "m", RESNET, network.state_dict(), processor, transformers_name)
    with pytest.warns(FastcnnWarning, match="LevitImageProcessor is not known"):
        model = fc.load(folder)
    assert model.preprocess is None and model.classes == LABELS


CLIP = {"image_processor_type": "CLIPImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (224, 0.875, "bicubic", "crop")),
        ({"crop_mode": "squash", "crop_pct": 1.0}, (224, 1.0, "bicubic", "stretch")),
        ({"crop_mode": "border", "crop_pct": 1.0, "interpolation": "bilinear"}, (224, 1.0, "bilinear", "letterbox")),
        ({"input_size": [3, 32, 48]}, ((32, 48), 0.875, "bicubic", "crop")),
    ],
)
def test_preprocessing_of_timm(config, expected):
    found = preprocess_of_timm(config)
    assert found == Preprocess(*expected[:3], found.mean, found.std, expected[3])
    assert found.mean == tuple(255 * value for value in MEAN)


def test_grey_preprocessing_of_timm():
    found = preprocess_of_timm({"input_size": [1, 28, 28], "mean": [0.5], "std": [0.25]})
    assert (found.channels, found.mean, found.std) == (1, (127.5,), (63.75,))


@pytest.mark.parametrize(
    ("config", "size", "fraction", "resize"),
    [
        ({**CONVNEXT, "size": {"shortest_edge": 384}}, 384, 1.0, "stretch"),
        ({**CONVNEXT, "size": {"shortest_edge": 224}}, 224, 0.875, "crop"),
        ({**CLIP, "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}, 224, 1.0, "crop"),
        ({**CLIP, "size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}, 224, 0.875, "crop"),
        ({**CLIP, "size": 30, "do_center_crop": False}, 30, 1.0, "stretch"),
    ],
)
def test_preprocessing_of_transformers(config, size, fraction, resize):
    found = preprocess_of_transformers(config)
    assert (found.size, found.crop_fraction, found.resize) == ((size, size), fraction, resize)


@pytest.mark.parametrize("crop", range(200, 260, 7))
def test_the_shorter_edge_is_the_one_that_is_told(crop):
    for edge in range(crop, crop + 40):
        config = {**CLIP, "size": {"shortest_edge": edge}, "crop_size": crop}
        assert math.floor(crop / preprocess_of_transformers(config).crop_fraction) == edge


def test_numbers_without_scaling_or_normalisation():
    known = {**CLIP, "size": 32, "crop_size": 32}
    assert preprocess_of_transformers({**known, "do_normalize": False}).std == (255.0,) * 3
    assert preprocess_of_transformers({**known, "do_rescale": False}).std == (0.25,) * 3
    assert preprocess_of_transformers({**known, "rescale_factor": 0.5}).mean == (1.0,) * 3


@pytest.mark.parametrize(
    ("read", "config", "message"),
    [
        (preprocess_of_timm, {"crop_mode": "border", "crop_pct": 0.9}, "crop_mode='border'"),
        (preprocess_of_timm, {"input_size": [3, 0, 4]}, "input_size"),
        (preprocess_of_timm, {"input_size": [1, 8, 8]}, "expected 1 numbers"),
        (preprocess_of_timm, {"interpolation": "random"}, "interpolation"),
        (preprocess_of_timm, {"mean": "abc"}, "mean"),
        (preprocess_of_transformers, {}, "None is not known"),
        (preprocess_of_transformers, {**CLIP, "do_pad": True}, "do_pad=True"),
        (preprocess_of_transformers, {**CLIP, "do_resize": False}, "do_resize=False"),
        (preprocess_of_transformers, {**CLIP, "resample": 4}, "resample=4"),
        (preprocess_of_transformers, {**CLIP, "rescale_factor": 0}, "rescale_factor=0"),
        (preprocess_of_transformers, {**CLIP, "size": {"shortest_edge": 8}}, "without do_center_crop"),
        (preprocess_of_transformers, {**CLIP, "size": {"shortest_edge": 8}, "crop_size": 9}, "square within"),
        (preprocess_of_transformers, {**CLIP, "size": {"height": 8, "width": 8}, "crop_size": 9}, "expected the same"),
        (preprocess_of_transformers, {"image_processor_type": "CLIP", "size": 8}, "image_mean"),
    ],
)
def test_preprocessing_that_cannot_be(read, config, message):
    with pytest.raises((ValueError, TypeError), match=message):
        read(config)
