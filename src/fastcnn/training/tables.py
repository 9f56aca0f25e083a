"""Data that tell their labels themselves: npz files, data sets of other libraries, and all that yields (image, label).

CSV files and data frames of paths are label_files.py's. What all are made into is prepare.py's and folders.py's.
None of the libraries is imported: their objects are known by what they can do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.training.label_files import LABELS, SUFFIXES, Known, known_labels, of_columns, read_table

__all__ = ["known_data"]

_IMAGES = ("image", "img", "photo", "pixel_values")
_ARRAYS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "validation": (("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
_WHOLE = (("x", "y"), ("X", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1"))


def known_data(x: Any, parts: Sequence[str] = ("train",), several: bool = False) -> Known | Any:
    """Return inputs and labels of an object that has both; whatever else it is comes back as it is.

    Parameters
    ----------
    x : path, data frame, data set or iterable
        A path is of a .csv, .tsv or .npz file, a data set of Hugging Face or PyTorch. An iterable yields an image and a
        single label each time. An iterable of batches comes back.
    parts : sequence of str
        Which of "train", "validation" and "test" to take, where `x` is divided.
    several : bool
        Whether an input of a file or a data frame may have any number of labels, even if none has more than one.

    Raises
    ------
    ValueError
        Where columns or arrays are missing.

    Examples
    --------
    >>> known = known_data([(np.zeros((1, 2, 2)), 1), (np.ones((1, 2, 2)), 0)])
    >>> known.x.shape, known.y.tolist()
    ((2, 1, 2, 2), [1, 0])
    """
    if isinstance(x, (str, os.PathLike)):
        suffix = os.path.splitext(os.fsdecode(x))[1].lower()
        if suffix in SUFFIXES:
            return read_table(Path(x), several)
        return _of_npz(Path(x), parts) if suffix == ".npz" else x
    if isinstance(x, dict):
        names = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
        found = {names[name]: part for name, part in x.items() if name in names}
        for part in parts:
            if part in found:
                return known_data(found[part], parts, several)
        raise ValueError(f"x has the parts {', '.join(map(str, x))}, expected {' or '.join(parts)}")
    if hasattr(x, "columns") and hasattr(x, "iloc"):
        return of_columns({str(name): x[name].tolist() for name in x.columns}, "the data frame", Path(), several)
    if hasattr(x, "features") and hasattr(x, "column_names"):
        return _of_hugging_face(x)
    return _of_pairs(x)


def _of_npz(path: Path, parts: Sequence[str]) -> Known:
    with np.load(path, allow_pickle=False) as arrays:
        for x, y in (*(pair for part in parts for pair in _ARRAYS[part]), *_WHOLE):
            if x in arrays and y in arrays:
                labels = arrays[y]
                return Known(_channels_first(arrays[x]), labels[:, 0] if labels.shape[1:] == (1,) else labels)
        has = ", ".join(arrays.files[:10])
    raise ValueError(f"{path}: has the arrays {has}, expected x and y, images and labels, or x_train and y_train")


def _channels_first(x: np.ndarray) -> np.ndarray:
    if x.ndim == 3:
        return x[:, None]
    is_last = x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3)
    return x.transpose(0, 3, 1, 2) if is_last else x


class _Column(Sequence[Any]):
    """One part of the items of a sequence, fetched when it is asked for."""

    def __init__(self, items: Any, key: Any) -> None:
        self._items, self._key = items, key

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[int(index)][self._key]


def _of_hugging_face(data: Any) -> Known:
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    image = image or next((name for name in data.column_names if name.lower() in _IMAGES), None)
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    label = label or next((name for name in data.column_names if name.lower() in LABELS), None)
    if image is None or label is None:
        has = ", ".join(data.column_names)
        raise ValueError(f"x has the columns {has}, expected one of images and one of labels")
    feature = data.features[label]
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    cells = list(data[label])
    if names and any(isinstance(cell, (list, tuple)) for cell in cells):
        return Known(_Column(data, image), [[names[i] for i in cell] for cell in cells])
    y = np.asarray(cells, np.int64) if names else known_labels(cells)
    return Known(_Column(data, image), y, list(names) if names else None)


def _of_pairs(x: Any) -> Known | Any:
    """Images and labels of an iterable that yields them one by one; else the iterable."""
    if isinstance(x, np.ndarray) or hasattr(x, "__array__"):
        return x
    is_sequence = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    if not is_sequence and not (hasattr(x, "__iter__") and iter(x) is x):
        return x  # an iterable that can be gone through again is one of batches
    if is_sequence:
        if not len(x) or not _is_pair(x[0]):
            return x
        return Known(_images(_Column(x, 0)), _labels_of(x), _names_of(x))
    first = next(x, None)
    if not _is_pair(first):
        return chain([] if first is None else [first], x)
    pairs = [first, *x]
    return Known(_images([image for image, _ in pairs]), known_labels([label for _, label in pairs]))


def _is_pair(item: Any) -> bool:
    """Whether it is an image and one label; batches have an array of them."""
    if not isinstance(item, (tuple, list)) or len(item) != 2 or isinstance(item[0], (int, float)):
        return False
    return isinstance(item[1], str) or (np.ndim(item[1]) == 0 and not isinstance(item[1], (dict, set)))


def _labels_of(data: Any) -> Any:
    for name in ("targets", "labels"):
        known = getattr(data, name, None)
        if known is not None and np.ndim(known) == 1 and len(known) == len(data):
            return known_labels(np.asarray(known).tolist())
    return known_labels([data[i][1] for i in range(len(data))])


def _names_of(data: Any) -> list[str] | None:
    names = getattr(data, "classes", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None


def _images(images: Sequence[Any]) -> Any:
    """Photos as they are; arrays of numbers, (C, H, W), as one."""
    first = images[0]
    if isinstance(first, (str, os.PathLike)):
        return list(images)
    is_array = hasattr(first, "__array__") and hasattr(first, "ndim")
    if not is_array or (np.asarray(first).dtype == np.uint8 and not _is_channels_first(first)):
        return images
    arrays = [np.asarray(image) for image in images]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"x has images of shapes {sorted(shapes)[:3]}, expected the same for all, or photos")
    return _channels_first(np.stack(arrays))


def _is_channels_first(image: Any) -> bool:
    return image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3)
