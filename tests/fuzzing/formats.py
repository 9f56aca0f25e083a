"""What the fuzzers begin with, and how they change it: valid files of every format that is read, one list a target."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx_builders
import photos
from checkpoints import ORDERED, call, flat, named, storage, tensor, zipped
from fuzzing.containers import changed_container
from fuzzing.pickles import changed_checkpoint
from fuzzing.pictures import changed_image
from PIL import Image

import fastcnn as fc
from fastcnn.io.image import Preprocess
from fastcnn.io.weights import write_safetensors
from fastcnn.onnx_model import load_onnx

CORPUS = Path(__file__).parents[1] / "corpus"


def _written(write: Callable[[str], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/file")
        return Path(folder, "file").read_bytes()


def _networks() -> Iterator[fc.Model]:
    """Small ones that between them have most operations."""
    net = fc.Sequential(
        fc.Conv2d(3, 8, 3, 2, padding=1, rng=0), fc.BatchNorm2d(8), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(),
        fc.Linear(8 * 4 * 4, 4, rng=0), fc.Softmax(),
    )  # fmt: skip
    net.classes, net.preprocess = list("abcd"), Preprocess(16)
    yield _with_shape(net, 3, 16, 16)
    yield _with_shape(
        fc.Sequential(
            fc.Conv2d(4, 16, 1, rng=0), fc.ReLU6(), fc.Conv2d(16, 16, 3, padding=1, groups=16, rng=0),
            fc.AvgPool2d(2, 1), fc.LeakyReLU(), fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(16, 3, rng=0),
        ), 4, 9, 7,
    )  # fmt: skip
    for build in (onnx_builders.classifier, onnx_builders.transformer):
        yield load_onnx(build().SerializeToString())


def _with_shape(model: fc.Model, *shape: int) -> fc.Model:
    model.input_shape = shape
    return model


def _weights() -> Iterator[bytes]:
    arrays = {
        name: np.arange(6, dtype=name).reshape(2, 3)
        for name in ("float64", "float32", "float16", "int64", "int8", "uint16")
    }
    yield _written(lambda path: write_safetensors(path, {**arrays, "flag": np.ones(3, bool)}, {"note": "x"}))
    large = {"large": np.zeros((40, 1000), np.float32), "scalar": np.float32(3), "none": np.zeros((0, 4), np.float32)}
    yield _written(lambda path: write_safetensors(path, large))


def _checkpoints() -> Iterator[bytes]:
    halves = storage(4, "BFloat16Storage", "1")
    parameter = call(named("torch._utils", "_rebuild_parameter"), tensor(), True, call(ORDERED))
    tensors = {"a": tensor(), "b": tensor(None, 1, (2,), (3,)), "c": tensor(halves, 0, (4,), (1,))}
    root = {"state_dict": tensors, "epoch": 3}
    for build in (zipped, flat):
        yield build(root, {"0": np.arange(6, dtype=np.float32), "1": np.arange(4, dtype=np.uint16)})
        yield build({"weight": parameter, "size": tensor(None, 5, (), ())})


def _images() -> Iterator[bytes]:
    smooth = Image.fromarray(photos.smooth(12, 10))
    for format, settings in photos.ALL_FORMATS.items():
        yield photos.encode(smooth, format, **settings)
    for format in ("PNG", "GIF", "BMP", "TIFF"):
        yield photos.encode(smooth.quantize(16), format)
    for mode, format in (("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("1", "TIFF"), ("L", "JPEG"), ("CMYK", "TIFF")):
        yield photos.encode(smooth.convert(mode), format)
    yield photos.encode(Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10) * 500), "PNG")
    for compression in ("jpeg", "tiff_deflate", "packbits"):
        yield photos.encode(smooth, "TIFF", compression=compression)
    frames = [smooth, smooth.rotate(90)]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        yield photos.encode(smooth, format, save_all=True, append_images=frames)
    turned = Image.Exif()
    turned[0x0112] = 6
    for format in ("JPEG", "PNG", "WEBP"):
        yield photos.encode(smooth, format, exif=turned)
    yield photos.encode(smooth, "JPEG", progressive=True, quality=60)


_SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "model": lambda: (_written(model.save) for model in _networks()),
    "weights": _weights,
    "torch": _checkpoints,
    "image": _images,
}
_CHANGES = {
    "model": changed_container, "weights": changed_container, "torch": changed_checkpoint, "image": changed_image,
}  # fmt: skip


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """The valid files of a target."""
    return tuple(_SEEDS[target]())


def changed(target: str, content: bytes, rng: random.Random) -> bytes:
    """A file of one to three changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _CHANGES[target](content, rng)
    return content


def kept(target: str) -> list[Path]:
    """The files of the corpus, which coverage_guided.py has found."""
    return sorted((CORPUS / target).glob("*"))


def inputs(target: str, seed: int, count: int) -> Iterator[bytes]:
    """`count` changed files, the same ones for the same seed: of the valid ones and of the corpus in turns."""
    rng = random.Random(f"{target} {seed}")
    beginnings = [seeds(target), [path.read_bytes() for path in kept(target)] or seeds(target)]
    for i in range(count):
        yield changed(target, rng.choice(beginnings[i % 2]), rng)
