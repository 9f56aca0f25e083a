"""Well-known architectures with fresh weights (`build`), or trained on ImageNet (`load_pretrained`).

Each architecture is a table and a short builder in a file of its own. Trained weights are not part of
this package: they come from packages that zoo/pretrained.py finds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fastcnn._arguments import as_choice
from fastcnn.model import Model
from fastcnn.zoo.convnext import convnext_atto, convnext_tiny, convnextv2_atto
from fastcnn.zoo.efficientnet import efficientnet_b0, efficientnet_v2_s
from fastcnn.zoo.efficientnet_lite import (
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
    efficientnet_lite3,
    efficientnet_lite4,
)
from fastcnn.zoo.lenet import lenet
from fastcnn.zoo.mobilenet import mobilenet_v2
from fastcnn.zoo.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from fastcnn.zoo.mobilenet_v4 import mobilenet_v4_conv_small
from fastcnn.zoo.pretrained import load_pretrained
from fastcnn.zoo.regnet import regnet_y_400mf
from fastcnn.zoo.repvgg import repvgg_a0
from fastcnn.zoo.resnet import resnet18, resnet20, resnet34, resnet50, resnext50
from fastcnn.zoo.small import small_cnn
from fastcnn.zoo.squeezenet import squeezenet1_1
from fastcnn.zoo.swin import swin_t
from fastcnn.zoo.vgg import vgg16
from fastcnn.zoo.vit import deit_tiny, vit_base_patch16, vit_small_patch16, vit_tiny_patch16

_BUILDERS: dict[str, Callable[..., Model]] = {
    builder.__name__: builder
    for builder in (
        convnext_atto,
        convnext_tiny,
        convnextv2_atto,
        deit_tiny,
        efficientnet_b0,
        efficientnet_lite0,
        efficientnet_lite1,
        efficientnet_lite2,
        efficientnet_lite3,
        efficientnet_lite4,
        efficientnet_v2_s,
        lenet,
        mobilenet_v2,
        mobilenet_v3_large,
        mobilenet_v3_small,
        mobilenet_v4_conv_small,
        regnet_y_400mf,
        repvgg_a0,
        resnet18,
        resnet20,
        resnet34,
        resnet50,
        resnext50,
        small_cnn,
        squeezenet1_1,
        swin_t,
        vgg16,
        vit_base_patch16,
        vit_small_patch16,
        vit_tiny_patch16,
    )
}

__all__ = [
    "build",
    "convnext_atto",
    "convnext_tiny",
    "convnextv2_atto",
    "deit_tiny",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "efficientnet_v2_s",
    "lenet",
    "load_pretrained",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenet_v4_conv_small",
    "names",
    "regnet_y_400mf",
    "repvgg_a0",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnext50",
    "small_cnn",
    "squeezenet1_1",
    "swin_t",
    "vgg16",
    "vit_base_patch16",
    "vit_small_patch16",
    "vit_tiny_patch16",
]


def names() -> list[str]:
    """Return the names that `build` knows.

    Returns
    -------
    list of str

    Examples
    --------
    >>> [name for name in names() if name.startswith("mobilenet")][:2]
    ['mobilenet_v2', 'mobilenet_v3_large']
    """
    return list(_BUILDERS)


def build(name: str, *, weights: str | os.PathLike[str] | None = None, **settings: Any) -> Model:
    """Build an architecture by name, with fresh weights or with those of a file.

    Parameters
    ----------
    name : str
        One of `names`.
    weights : path-like, optional
        A safetensors file or a PyTorch checkpoint with the architecture's names; see `Model.load_weights`.
    **settings
        ``num_classes``, ``in_channels``, ``rng`` (a seed or generator; default 0), and what else the function of this
        name takes.

    Returns
    -------
    Model
        With ``input_shape`` set.

    Raises
    ------
    ValueError
        If there is no architecture of this name.
    ModelLoadError
        If the file is damaged, or its names and shapes are other ones.

    Examples
    --------
    >>> build("lenet", num_classes=26).input_shape
    (1, 28, 28)
    """
    as_choice(name, "zoo.build: name", _BUILDERS)
    model = _BUILDERS[name](**settings)
    if weights is not None:
        model.load_weights(weights)
    return model
