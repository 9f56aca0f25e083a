"""Folders as they really are: divided into parts, with files that are no photos, and links."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc
import fastcnn.io.image
from fastcnn.cli import main
from fastcnn.training.folders import dataset_of_folder
from fastcnn.training.layouts import left_out, parts_of

RNG = np.random.default_rng(0)


def classes(folder, count=4, names=("dark", "light")):
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = RNG.integers(0, 100, (12, 12, 3), dtype=np.uint8) + np.uint8(120 * k)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def network():
    model = fc.Sequential(fc.Conv2d(3, 4, 3, rng=0), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(4, 2, rng=1))
    model.input_shape = (3, 8, 8)
    return model


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid"), ("train", "test")])
def test_known_layouts_are_taken_as_such(names, tmp_path):
    for count, name in zip((4, 3, 2), names, strict=False):
        classes(tmp_path / name, count)
    model = network()
    history = model.fit(tmp_path, epochs=1)
    assert model.classes == ["dark", "light"]
    assert ("validation_loss" in history) == (names[1] != "test")
    model.evaluate(tmp_path)
    assert model.evaluate(tmp_path).count == (4 if len(names) == 3 else 6)
    part = fc.Augment(crop=1, rotation=0)
    assert model.fit(tmp_path, epochs=1, validation=tmp_path / names[0], augment=part)["validation_loss"]


def test_folders_that_only_look_so_are_classes(tmp_path):
    assert parts_of(tmp_path / "nothing") == {}
    classes(tmp_path / "trains", names=("train", "tram"))
    assert parts_of(tmp_path / "trains") == {}
    classes(tmp_path / "photos", names=("train", "val"))
    assert parts_of(tmp_path / "photos") == {}
    model = network()
    model.fit(tmp_path / "photos", epochs=1)
    assert model.classes == ["train", "val"]
    classes(tmp_path / "half" / "val")
    classes(tmp_path / "half" / "test")
    assert parts_of(tmp_path / "half") == {}


def test_the_command_line_takes_the_parts(tmp_path, capsys):
    for count, name in ((4, "train"), (3, "val"), (2, "test")):
        classes(tmp_path / name, count)
    target = str(tmp_path / "m.safetensors")
    command = ["train", str(tmp_path), "-o", target, "--size", "8", "--epochs", "1"]
    assert main(command) == 0
    assert "8 photos to learn from, 6 to examine, of 2 classes" in capsys.readouterr().err
    assert main([*command, "--validation", "0.5"]) == 0
    assert "4 photos to learn from, 4 to examine" in capsys.readouterr().err
    assert main([*command, "--validation", str(tmp_path / "test")]) == 0
    assert "8 photos to learn from, 4 to examine" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--model", target]) == 0
    assert "% of 4," in capsys.readouterr().out


def test_what_is_left_out_is_counted_and_named(tmp_path, capsys):
    folder = classes(tmp_path / "d")
    elsewhere = classes(tmp_path / "more")
    for i in range(5):
        (folder / "dark" / f"{i}.HEIC").touch()
    for name in ("light/IMG_1", "light/notes.txt", "dark/.hidden", "photo.jpg", "readme.txt"):
        (folder / name).touch()
    (folder / "light" / "linked").symlink_to(elsewhere / "light")
    expected = (
        "5 .heic (dark/0.HEIC, dark/1.HEIC, dark/2.HEIC, …); 1 in no class (photo.jpg); 1 without a suffix "
        "(light/IMG_1); 1 .txt (light/notes.txt); 1 linked folders (light/linked)"
    )
    assert str(left_out(folder)) == expected
    with pytest.warns(fc.FastcnnWarning, match=r"left out, as they are no photos of a known .*: 5 \.heic") as record:
        dataset_of_folder(folder, fc.io.image.Preprocess(8))
    assert len(record) == 1
    assert main(["train", str(folder), "-o", str(tmp_path / "m"), "--size", "8", "--epochs", "1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"fastcnn train: {folder}: left out, as they are no photos of a known format: {expected}"
    assert lines[1] == "6 photos to learn from, 2 to examine, of 2 classes"
    assert len(lines) == 3 and lines[2].startswith("epoch 1/1 ")


def test_a_class_without_photos_tells_what_it_has(tmp_path):
    folder = classes(tmp_path / "d", names=("dark",))
    (folder / "light").mkdir()
    (folder / "light" / "a.heic").touch()
    with pytest.raises(ValueError, match=r"light: only 1 \.heic \(a\.heic\), expected at least one photo of the class"):
        network().fit(folder, epochs=1)


def test_linked_classes_are_gone_into(tmp_path):
    folder = classes(tmp_path / "d", names=("dark",))
    (folder / "light").symlink_to(classes(tmp_path / "more", names=("light",)) / "light")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data, names = dataset_of_folder(folder, fc.io.image.Preprocess(8))
    assert (names, len(data)) == (["dark", "light"], 8)


def test_a_part_beside_other_folders_is_no_class(tmp_path, capsys):
    """Classes within train would otherwise become one class, and "extra" the other."""
    for name in ("train", "extra"):
        classes(tmp_path / name)
    with pytest.raises(
        ValueError, match="train has sub-folders, as a part has, but extra is no part: expected train, "
    ):
        network().fit(tmp_path, epochs=1)
    assert main(["train", str(tmp_path), "-o", str(tmp_path / "m")]) == 2
    assert "extra is no part" in capsys.readouterr().err
    network().fit(tmp_path / "train", epochs=1)


def test_a_class_may_be_called_train(tmp_path):
    model = network()
    model.fit(classes(tmp_path, names=("bus", "train")), epochs=1)
    assert model.classes == ["bus", "train"]


def test_what_systems_put_into_folders_is_no_photo(tmp_path, capsys):
    classes(tmp_path)
    for name in ("__MACOSX/dark", "dark/@eaDir/1.png", "lost+found"):
        classes(tmp_path / name, names=("x",))
    data, names = dataset_of_folder(tmp_path, fastcnn.io.image.Preprocess(8))
    assert len(data) == 8 and names == ["dark", "light"] and not left_out(tmp_path)
    assert len(fastcnn.io.image.find_images(tmp_path)) == 8
    main(["check", str(tmp_path)])
    assert "8 photos" in capsys.readouterr().out


def test_classes_of_the_same_folders_are_doubted(tmp_path):
    for name in ("fold1", "fold2"):
        classes(tmp_path / name)
    text = "all of its classes, fold1, fold2, have the folders dark, light: are those the classes?"
    with pytest.warns(fc.FastcnnWarning, match=text):
        network().fit(tmp_path, epochs=1)
    classes(tmp_path / "fold3", names=("dark", "dim"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset_of_folder(tmp_path, fastcnn.io.image.Preprocess(8))
