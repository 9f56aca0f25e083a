"""A model from what the user typed: a name of the zoo, a file, or a folder of another library."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import TextIOWrapper

from fastcnn import zoo
from fastcnn._names import listed, meant
from fastcnn.cli._arguments import numbers, whole
from fastcnn.io._fit import RESIZES
from fastcnn.io._regular import open_regular
from fastcnn.io.image import Preprocess
from fastcnn.io.preprocess import image_shape
from fastcnn.loading import GraphModel, load
from fastcnn.model import Model
from fastcnn.training.data import Dataset
from fastcnn.training.label_files import SUFFIXES
from fastcnn.training.prepare import prepare
from fastcnn.training.screen import ON_ERROR, Unreadable, Use, describe_unreadable, screened
from fastcnn.zoo.pretrained import pretrained_names

DEFAULT = "efficientnet_lite0"


def trained_model(name: str, output: str | None = None) -> Model:
    """A model that can classify: a pretrained network by name, a file that `Model.save` wrote, or an ONNX file.

    Raises
    ------
    ValueError
        Where it is neither.
    """
    if name in pretrained_names() and output is None:
        return zoo.load_pretrained(name)
    if name in zoo.names() and output is None:
        raise ValueError(f"{name} has no trained weights here; those with weights: {listed(pretrained_names())}")
    return _from_file(name, output)


def any_model(name: str, output: str | None = None) -> Model:
    """A model to look at: of the zoo with fresh weights, or a file."""
    return zoo.build(name) if name in zoo.names() and output is None else _from_file(name, output)


def _from_file(name: str, output: str | None) -> Model:
    if name in zoo.names() and output is not None:
        raise ValueError(f"--output {output}: expected with an ONNX file, and {name} is a network of the zoo")
    if not os.path.exists(name):
        models = zoo.names()
        raise ValueError(
            f"{name!r} is neither a file nor a model{meant(name, models) or f'; models: {listed(models, 30)}'}"
        )
    return load(name, output=output)


def add_output(parser: argparse._ActionsContainer) -> None:
    """The option --output."""
    parser.add_argument("--output", metavar="NAME", help="the output to take of an ONNX file that has several")


def add_size(parser: argparse._ActionsContainer) -> None:
    """The option --size."""
    parser.add_argument("--size", type=numbers, metavar="N[,N]", help="height and width of the input, if free")


def set_size(model: Model, size: tuple[float, ...] | None) -> None:
    """Give images of a model this height and width."""
    if size is None:
        return
    height, width = _pair(size)
    fixed = _fixed_size(model)
    if any(known not in (None, given) for known, given in zip(fixed, (height, width), strict=True)):
        told = " x ".join("any" if known is None else str(known) for known in fixed)
        raise ValueError(f"--size {height},{width}: the model takes images of {told} alone")
    channels = image_shape(model.input_shape)[0] if model.input_shape else _channels(model)
    model.input_shape = (channels, height, width)


def _pair(size: tuple[float, ...]) -> tuple[int, int]:
    if len(size) not in (1, 2) or any(number != int(number) or number < 1 for number in size):
        raise ValueError(f"--size={','.join(f'{number:g}' for number in size)}, expected one or two whole numbers")
    return int(size[0]), int(size[-1])


def _channels(model: Model) -> int:
    """The channels of its images, three where they are not known."""
    return _images_of(model)[0] or 3


def _fixed_size(model: Model) -> tuple[int | None, int | None]:
    """The height and width that its graph takes alone, None where one is free."""
    _, height, width = _images_of(model)
    return height or None, width or None


def _images_of(model: Model) -> tuple[int, ...]:
    """The channels, height and width that its graph tells, 0 where one is free."""
    if not isinstance(model, GraphModel):
        return 0, 0, 0
    (shape,) = model._graph.inputs.values()
    return image_shape([size or 0 for size in shape[1:]]) if len(shape) == 4 else (0, 0, 0)


def add_photo_options(parser: argparse.ArgumentParser, chooses_output: bool = True) -> None:
    """What an ONNX file may not tell: names of classes, how photos become inputs, and which output is meant."""
    group = parser.add_argument_group("for models that do not tell these themselves")
    if chooses_output:
        add_output(group)
    group.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="of pixels from 0 to 1 (0.485,0.456,0.406)")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="of pixels from 0 to 1 (0.229,0.224,0.225)")
    add_size(group)
    add_resize(group)


def add_resize(parser: argparse._ActionsContainer) -> None:
    """The options --resize and --padding."""
    parser.add_argument(
        "--resize",
        choices=RESIZES,
        help="keep the middle of photos (crop), fit them in and pad them (letterbox), or distort them (stretch)",
    )
    parser.add_argument(
        "--padding", type=numbers, metavar="R,G,B", help="colour of the padding, from 0 to 255 (default: the mean)"
    )


def resized(preprocess: Preprocess, options: argparse.Namespace) -> Preprocess:
    """Return the preprocessing, as the options of `add_resize` say."""
    resize = options.resize or preprocess.resize
    if options.padding is None:
        return replace(preprocess, resize=resize, padding=preprocess.padding if resize == preprocess.resize else None)
    if resize != "letterbox":
        raise ValueError("--padding: expected with --resize letterbox")
    if any(value != int(value) for value in options.padding):
        raise ValueError(f"--padding {','.join(map(str, options.padding))}: expected whole numbers")
    padding = tuple(map(int, options.padding))
    return replace(preprocess, resize=resize, padding=padding[0] if len(padding) == 1 else padding)


def describe(model: Model, options: argparse.Namespace) -> None:
    """Set classes and preprocessing as the options of `add_photo_options` say; others stay as the file has them."""
    if options.labels is not None:
        with TextIOWrapper(open_regular(options.labels), encoding="utf-8") as file:
            names = [line.strip() for line in file if line.strip()]
        if model.classes is not None and len(names) != len(model.classes):
            raise ValueError(f"--labels {options.labels}: {len(names)} names, expected {len(model.classes)}")
        model.classes = names
    set_size(model, options.size)
    if all(getattr(options, name) is None for name in ("mean", "std", "size", "resize", "padding")):
        return
    if model.input_shape is None or len(model.input_shape) != 3:
        raise ValueError("the model does not tell the size of its images: give --size")
    known, (channels, *size) = model.preprocess, image_shape(model.input_shape)
    if known is None and channels == 1 and (options.mean is None or options.std is None):
        raise ValueError("the model takes grey photos, for which no mean and std are usual: give --mean and --std")
    if known is None:
        known = Preprocess((size[0], size[1]), mean=_MEAN[:channels], std=_STD[:channels])
    given = replace(
        known,
        size=(size[0], size[1]),
        mean=known.mean if options.mean is None else _scaled(options.mean, "--mean", channels),
        std=known.std if options.std is None else _scaled(options.std, "--std", channels),
    )
    model.preprocess = resized(given, options)


# torchvision's, for pixels from 0 to 255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def _scaled(values: tuple[float, ...], option: str, channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        expected = "one or three" if channels == 3 else "one, as the model takes grey photos"
        raise ValueError(f"{option}: {len(values)} numbers, expected {expected}")
    return tuple(255 * value for value in (values if len(values) == channels else values * channels))


def add_on_error(parser: argparse.ArgumentParser, what: str = "leave them out, up to a tenth of all, or stop") -> None:
    """The option --on-error."""
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="skip",
        help=f"photos that cannot be read: {what} (default: skip)",
    )


LABEL_FILES = (
    "In place of a folder, a .csv file has a column path and a column label; | stands between\n"
    "several labels of a photo. Or it has a column of 0 and 1 for each label."
)


def is_label_file(path: str) -> bool:
    """Whether photos and labels are listed in a file; others are folders."""
    return os.path.splitext(path)[1].lower() in SUFFIXES and not os.path.isdir(path)


def photos_of(
    path: str,
    model: Model,
    options: argparse.Namespace,
    parts: Sequence[str] = ("train",),
    use: Use = Use(),  # noqa: B008 - it cannot change
) -> tuple[Dataset, list[Unreadable]]:
    """The photos of a folder or label file that can be read, and those that are left out, which are told on stderr."""
    data = prepare(model, path, adopt=False, parts=parts)
    assert isinstance(data, Dataset)  # only iterables are none
    kept, found = screened(data, options.on_error, False if options.json else None, model.classes, use)
    if found:
        text = describe_unreadable(found, len(data), " and are left out")
        print(f"fastcnn {options.command}: {text}", file=sys.stderr)
    return kept, found


def add_ray(parser: argparse.ArgumentParser, what: str) -> None:
    """The options --ray and --workers."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help=f"let processes of a Ray cluster {what}: at ADDRESS, or a new one of this machine (needs fastcnn[ray])",
    )
    parser.add_argument("--workers", type=whole(1, 100_000), metavar="N", help="with --ray: processes")


def check_ray(options: argparse.Namespace, *others: str) -> None:
    """Refuse options that only --ray has a use for."""
    for name in ("workers", *others):
        if options.ray is None and getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')}: expected with --ray")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option --threads."""
    parser.add_argument(
        "--threads", type=whole(1, 1024), metavar="N", help="threads (default: all that this process may use)"
    )
