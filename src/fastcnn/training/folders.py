"""Photos to learn from: folders of classes, and lists of files, decoded when a batch needs them.

Decoding is io/_load.py's, resizing io/preprocess.py's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from fastcnn._names import listed, readable
from fastcnn.errors import FastcnnWarning
from fastcnn.io._cache import PhotoCache
from fastcnn.io._load import examine_file
from fastcnn.io.image import Preprocess, find_images
from fastcnn.io.preprocess import Pixels
from fastcnn.training.augment import Augment
from fastcnn.training.augment_functions import FunctionAugment
from fastcnn.training.data import Dataset, targets_of_names
from fastcnn.training.layouts import common_folders, folders_of, left_out, part_of

__all__ = [
    "PhotoSource",
    "PixelSource",
    "class_folders",
    "crop_of",
    "dataset_of_folder",
    "preprocess_for",
    "with_cache",
]


class PhotoSource:
    """Photos, usually in files; memory holds those of a few batches only.

    Parameters
    ----------
    photos : iterable of path-like, or whatever `load_image` takes
    preprocess : Preprocess
        What the network wants. Where images are augmented with ``crop < 1``, a random part takes the place of its
        middle part. A subclass of `Augment` with a ``__call__`` of its own is given the middle part, (channels,
        height, width) float32 from 0 to 255.
    cache : PhotoCache, optional
        Keeps what files are decoded to, no larger than needed, for the next epoch.

    Raises
    ------
    ImageError
        From `load`, where a file is damaged or no photo: it names the file. The first epoch meets all of them.
    """

    is_slow = True
    is_screened = False  # whether all that can be asked for was read once: see screen.py

    def __init__(self, photos: Iterable[Any], preprocess: Preprocess, cache: PhotoCache | None = None) -> None:
        # What fetches photos when they are asked for goes on doing so.
        self.photos: Sequence[Any] = photos if isinstance(photos, Sequence) else list(photos)
        self.preprocess, self.cache = preprocess, cache

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: (channels, height, width)."""
        return (self.preprocess.channels, *cast(tuple[int, int], self.preprocess.size))

    def __len__(self) -> int:
        return len(self.photos)

    def load(self, index: int, augment: Augment | None, rng: np.random.Generator | None) -> np.ndarray:
        """Return one input."""
        preprocess = self.preprocess
        if augment is None or rng is None:
            plain: np.ndarray
            if type(preprocess) is not Preprocess:  # a user's own
                plain = preprocess(self.photos[index])[0]
                return plain
            plain = Pixels(self._decoded(index, 1.0)[None], preprocess).numbers()[0]
            return plain
        pixels = self._decoded(index, crop_of(augment))
        if _is_own(augment):
            pixels = pixels.transpose(2, 0, 1)
            takes_bytes = isinstance(augment, FunctionAugment)
            image = augment(pixels if takes_bytes else np.ascontiguousarray(pixels, np.float32), rng)
            return preprocess.normalise(image)
        _, height, width = self.shape
        box = augment.draw_crop(rng, pixels.shape[0], pixels.shape[1], width / height)
        image = augment.change(preprocess.resized(pixels, box), rng, (0, 0, height, width))
        return preprocess.normalise(image)

    def try_to_read(self, index: int, crop: float) -> None:
        """Read a file once, as `load` will with an augmentation that `crop_of` tells, and keep it for that.

        Raises
        ------
        ImageError, OSError
            If it cannot be read.
        """
        if self.cache is None or type(self.preprocess) is not Preprocess:
            examine_file(self.photos[index])
        else:
            self._decoded(index, crop)

    def _decoded(self, index: int, crop: float) -> np.ndarray:
        """The middle of a photo as the network wants it; or, where parts of it are cropped, all of it."""
        photo, preprocess = self.photos[index], self.preprocess

        def decode() -> np.ndarray:
            return preprocess.reduced(photo, crop) if crop < 1 else preprocess.pixels(photo)

        if self.cache is None or isinstance(photo, np.ndarray):
            return decode()
        return self.cache.get((index, crop), decode)

    def name(self, index: int) -> str:
        """Return the path of a photo, or its number."""
        photo = self.photos[index]
        return os.fsdecode(photo) if isinstance(photo, (str, os.PathLike)) else str(index)


class PixelSource(PhotoSource):
    """The same photos for a network that normalises them itself: uint8 (height, width, channels), as `Pixels` has."""

    dtype = np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one photo: (height, width, channels)."""
        return (*cast(tuple[int, int], self.preprocess.size), self.preprocess.channels)

    def load(self, index: int, augment: Augment | None, rng: np.random.Generator | None) -> np.ndarray:
        """Return one photo; never augmented."""
        return self._decoded(index, 1.0)


def crop_of(augment: Augment | None) -> float:
    """Return the least share of a photo's area that is taken of it.

    Examples
    --------
    >>> crop_of(Augment(crop=0.25)), crop_of(None)
    (0.25, 1.0)
    """
    return 1.0 if augment is None or _is_own(augment) else augment.crop


def _is_own(augment: Augment) -> bool:
    """Whether an augmentation is a user's own, which takes uncropped images."""
    return type(augment).__call__ is not Augment.__call__


def with_cache(data: Dataset) -> Dataset:
    """Return the same data set, whose photos are decoded once."""
    source = data.source
    if not isinstance(source, PhotoSource) or source.cache is not None:
        return data
    kept = copy(source)
    kept.cache = PhotoCache()
    return replace(data, source=kept)


def class_folders(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """List the photos of ``folder/class_name/*``, by class, sorted; hidden folders do not count.

    Of a folder that is divided (layouts.py), those to train with. Names that are no UTF-8 are taken for Latin-1:
    classes are text, whatever the file system holds.

    Raises
    ------
    NotADirectoryError
        If the folder does not exist.
    ValueError
        If it has no sub-folders, or one of them has no photos.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["dog", "cat"]:
    ...         Path(folder, name).mkdir()
    ...         Path(folder, name, "1.jpg").touch()
    ...     {name: len(paths) for name, paths in class_folders(folder).items()}
    {'cat': 1, 'dog': 1}
    """
    root = part_of(folder, ("train",))
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: expected a folder with a sub-folder for each class")
    names = [path.name for path in folders_of(root)]
    if not names:
        raise ValueError(f"{root}: no sub-folders, expected one for each class, with photos")
    found: dict[str, list[Path]] = {}
    for name in names:
        try:
            found.setdefault(readable(name), []).extend(find_images(root / name))
        except FileNotFoundError:
            others = left_out(root / name, is_class=True)
            has = f"only {others}" if others else "no photos"
            raise ValueError(f"{root / name}: {has}, expected at least one photo of the class {name!r}") from None
    return found


def dataset_of_folder(
    folder: str | os.PathLike[str],
    preprocess: Preprocess,
    classes: Sequence[str] | None = None,
    parts: Sequence[str] = ("train",),
) -> tuple[Dataset, list[str]]:
    """Return the photos of a folder of classes, and the names of the classes; warn of what is left out.

    Parameters
    ----------
    folder : path-like
        See `class_folders`.
    preprocess : Preprocess
    classes : sequence of str, optional
        Names that a network already has for its outputs; by default those of the sub-folders.
    parts : sequence of str
        Which part of a folder to take that is divided into "train", "validation" and "test": the first that it has.

    Raises
    ------
    ValueError
        If the folder has a class that is not among `classes`.
    """
    folder = part_of(folder, parts)
    found = class_folders(folder)
    others = left_out(folder)
    if others:
        warnings.warn(f"{folder}: left out, as they are no photos of a known format: {others}", FastcnnWarning, 3)
    if common := common_folders(folder):
        text = f"all of its classes, {listed(list(found))}, have the folders {listed(common)}: are those the classes?"
        warnings.warn(f"{folder}: {text}", FastcnnWarning, 3)
    names = list(found) if classes is None else list(classes)
    paths = [path for photos in found.values() for path in photos]
    owners = np.array([name for name, photos in found.items() for _ in photos])
    try:
        targets = targets_of_names(owners, names)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return Dataset.of(PhotoSource(paths, preprocess), targets), names


def preprocess_for(shape: Sequence[int]) -> Preprocess:
    """Return how photos become inputs of a network that was not trained yet: their middle, scaled to -1 … 1.

    Raises
    ------
    ValueError
        If `shape`, (channels, height, width), is not that of coloured or grey photos.

    Examples
    --------
    >>> preprocess_for((3, 32, 48)).size, preprocess_for((1, 28, 28)).mean
    ((32, 48), (127.5,))
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"input_shape={tuple(shape)}, expected (3, height, width), or 1 channel for grey, as inputs are photos"
        )
    return Preprocess((shape[1], shape[2]), 1.0, "bilinear", (127.5,) * shape[0], (127.5,) * shape[0])
