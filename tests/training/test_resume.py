"""A checkpoint knows its run: each difference is refused in one line, unless it is allowed by name."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc
from fastcnn.cli import main

RNG = np.random.default_rng(0)


def photos(folder, names=("ball", "disc"), count=5):
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = RNG.integers(0, 100, (12, 12, 3), dtype=np.uint8)
            pixels[:, :, k] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def network(outputs=2):
    model = fc.Sequential(
        fc.Conv2d(3, 4, 3, rng=0), fc.ReLU(), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(4, outputs, rng=1)
    )
    model.input_shape = (3, 8, 8)
    return model


def schedule(step, steps, epoch_steps):
    return 1.0


SETTINGS = {"optimizer": fc.Adam(0.01), "batch_size": 4, "validation": 0.4, "clip_norm": 5.0}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("seed", {"seed": 1}),
        ("batch_size", {"batch_size": 5}),
        ("optimizer", {"optimizer": fc.Adam(0.02)}),
        ("optimizer", {"optimizer": fc.AdamW(0.01)}),
        ("loss", {"loss": fc.CrossEntropy(0.1)}),
        ("loss", {"loss": fc.CrossEntropy(class_weights=[1, 2])}),
        ("schedule", {"schedule": fc.Cosine()}),
        ("schedule", {"schedule": schedule}),
        ("augment", {"augment": fc.Augment()}),
        ("clip_norm", {"clip_norm": 4.0}),
        ("validation", {"validation": (RNG.random((2, 3, 8, 8)), [0, 1])}),
    ],
)
def test_another_setting_is_refused_unless_allowed(name, changed, tmp_path):
    x, y = RNG.random((10, 3, 8, 8)), np.arange(10) % 2
    network().fit(x, y, 1, **SETTINGS, checkpoint=tmp_path / "run")
    settings = {**SETTINGS, **changed, "checkpoint": tmp_path / "run", "resume": True}
    inputs = {"inputs": 1} if name == "validation" else {}  # another part to learn from, too
    first = "inputs" if inputs else name
    with pytest.raises(
        ValueError, match=rf"fit: {first}=.*, expected .* as in .*run; allow_changed='{first}' permits"
    ) as error:
        network().fit(x, y, 2, **settings)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    allowed = (name, "inputs", "data", "validation") if name in ("validation", "seed") else name  # the seed splits, too
    if name == "optimizer" and isinstance(changed["optimizer"], fc.AdamW):
        assert "AdamW(" in str(error.value)
    assert network().fit(x, y, 2, **settings, allow_changed=allowed).epochs == 2


@pytest.mark.parametrize("change", ["values", "order", "targets", "shape"])
def test_other_arrays_are_refused(change, tmp_path):
    x, y = RNG.random((300, 3, 8, 8)), np.arange(300) % 2
    network().fit(x, y, 1, checkpoint=tmp_path / "run")
    other, targets = {
        "values": (x + 1e-9, y),
        "order": (x[::-1], y),
        "targets": (x, 1 - y),
        "shape": (x[:, :, :7], y),
    }[change]
    with pytest.raises(ValueError, match="fit: data="):
        network().fit(other, targets, 2, checkpoint=tmp_path / "run", resume=True)
    assert network().fit(x.copy(), y.tolist(), 2, checkpoint=tmp_path / "run", resume=True).epochs == 2


@pytest.mark.parametrize("change", ["class", "name", "size", "count", "network"])
def test_other_photos_are_refused(change, tmp_path):
    folder, run = photos(tmp_path / "d"), tmp_path / "run"
    network().fit(folder, epochs=1, checkpoint=run)
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert network().fit(moved, epochs=2, checkpoint=run, resume=True).epochs == 2  # the same photos
    model, expected = network(), "data="
    if change == "class":
        (moved / "ball").rename(moved / "zz_ball")
        expected = r"classes=\[disc, zz_ball\], expected \[ball, disc\]"
    elif change == "name":
        (moved / "ball" / "0.png").rename(moved / "ball" / "9.png")
    elif change == "size":
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(moved / "ball" / "0.png")
    elif change == "count":
        (moved / "ball" / "0.png").unlink()
        expected = "inputs=9, expected 10"
    else:
        model.replace_head(2)
        model.input_shape = (3, 8, 8)
        model = fc.Sequential(*model, fc.Linear(2, 2))
        model.input_shape = (3, 8, 8)
        expected = "network=Sequential of 6 nodes"
    with pytest.raises(ValueError, match=f"fit: {expected}"):
        model.fit(moved, epochs=3, checkpoint=run, resume=True)


def test_the_command_line_refuses_in_one_line(tmp_path, capsys):
    folder, run, target = photos(tmp_path / "d"), str(tmp_path / "run"), str(tmp_path / "m.safetensors")
    command = ["train", str(folder), "-o", target, "--size", "8", "--checkpoint", run, "--no-augment", "--resume"]
    assert main([*command, "--epochs", "1"]) == 0
    capsys.readouterr()
    (folder / "ball").rename(folder / "zz_ball")
    assert main([*command, "--epochs", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"fastcnn train: fit: classes=[disc, zz_ball], expected [ball, disc] as in {run}")
    allowed = "classes,data,validation,schedule"
    assert main([*command, "--epochs", "2", "--allow-changed", allowed]) == 0
    assert main([*command, "--epochs", "2", "--allow-changed", "nothing"]) == 2
    assert "allow_changed='nothing', expected one of seed, batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_a_finished_run_tells_its_task(loss, tmp_path):
    """Though no step is left to do, the outputs mean what they meant."""
    x, y = RNG.random((10, 3, 8, 8)), np.eye(2)[np.arange(10) % 2] if loss[0] == "b" else np.arange(10) % 2
    first, again = network(), network()
    first.fit(x, y, 2, loss=loss, checkpoint=tmp_path / "run")
    again.fit(x, y, 2, loss=loss, checkpoint=tmp_path / "run", resume=True)
    assert again.task == first.task is not None
    np.testing.assert_array_equal(again.predict_proba(x), first.predict_proba(x))


def test_long_lists_of_classes_are_told_from_their_difference_on(tmp_path):
    names = [f"class {i:03d}" for i in range(300)]
    x = RNG.random((300, 3, 8, 8))
    network(300).fit(x, names, 1, checkpoint=tmp_path / "run")
    names[150] = "class 150b"
    with pytest.raises(
        ValueError, match=r"classes=\[…, class 149, class 150b, .*, …\], expected \[…, class 149"
    ) as error:
        network(300).fit(x, names, 1, checkpoint=tmp_path / "run", resume=True)
    assert len(str(error.value)) < 500
