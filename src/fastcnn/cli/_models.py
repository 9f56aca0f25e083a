"""A model from what the user typed: a name of the zoo, or a file."""

from __future__ import annotations

import argparse
import os

from fastcnn import zoo
from fastcnn.model import Model
from fastcnn.model_file import load
from fastcnn.zoo.pretrained import pretrained_names

DEFAULT = "efficientnet_lite0"


def trained_model(name: str) -> Model:
    """A model that can classify: a pretrained network by name, or a file that `Model.save` wrote.

    Raises
    ------
    ValueError
        Where it is neither.
    """
    if name in pretrained_names():
        return zoo.load_pretrained(name)
    if name in zoo.names():
        raise ValueError(f"{name} has no trained weights here; those with weights: {', '.join(pretrained_names())}")
    return _from_file(name)


def any_model(name: str) -> Model:
    """A model to look at: of the zoo with fresh weights, or a file."""
    return zoo.build(name) if name in zoo.names() else _from_file(name)


def _from_file(name: str) -> Model:
    if not os.path.exists(name):
        raise ValueError(f"{name!r} is neither a file nor a model; models: {', '.join(zoo.names())}")
    return load(name)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option --threads."""
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all that this process may use)")
