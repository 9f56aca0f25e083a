"""Data sets from the arguments of `Model.fit` and `Model.evaluate`, checked against the model.

Arguments are arrays, iterables, lists of files or folders of classes; tables.py reads others. The model changes only
after all checks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from fastcnn._names import listed, one_of
from fastcnn.compiler.network import infer_values, least_batch
from fastcnn.io.preprocess import image_shape
from fastcnn.network import Network
from fastcnn.training.data import ArraySource, Dataset, Source, as_targets, targets_of_names
from fastcnn.training.label_files import Known
from fastcnn.training.loader import IterableBatches
from fastcnn.training.tables import known_data

__all__ = ["is_batch", "is_paths", "names_of", "outputs_of", "prepare", "source_of", "targets_of"]


def is_paths(x: Any) -> bool:
    """Whether `x` is a sequence of files.

    Examples
    --------
    >>> is_paths(["a.jpg", "b.jpg"]), is_paths("a.jpg"), is_paths([1.0])
    (True, False, False)
    """
    if isinstance(x, np.ndarray):
        return x.ndim == 1 and len(x) > 0 and (x.dtype.kind == "U" or isinstance(x[0], (str, os.PathLike)))
    return isinstance(x, (list, tuple)) and len(x) > 0 and all(isinstance(item, (str, os.PathLike)) for item in x)


def is_batch(value: Any) -> bool:
    """Whether `value` is a batch as iterables yield them: a pair (x, y), or (x, y, weights), of arrays.

    Examples
    --------
    >>> is_batch((np.zeros((2, 3)), [0, 1])), is_batch(([[0, 1]], [0])), is_batch(np.zeros((2, 3)))
    (True, False, False)
    """
    return isinstance(value, (tuple, list)) and len(value) in (2, 3) and getattr(value[0], "ndim", 0) >= 2


def prepare(
    model: Network, x: Any, y: Any = None, *, adopt: bool = True, parts: Sequence[str] = ("train",)
) -> Dataset | IterableBatches:
    """Return the data, checked against the model.

    Parameters
    ----------
    model : Model
    x : array_like (N, ...), sequence of paths, folder, iterable of (x, y) batches, Dataset, or what `known_data` knows
    y : array_like, optional
        Numbers or names of classes, or (N, outputs) numbers; for each input a list of names, where it may have several
        labels; None for folders and iterables.
    adopt : bool
        Whether the model takes over class names, input shape and preprocessing that it lacks.
    parts : sequence of str
        Parts that are taken of a divided folder, see `dataset_of_folder`.

    Raises
    ------
    ValueError, TypeError
        Naming what does not fit.
    """
    if isinstance(x, Dataset):
        _fits(model, x, model.classes)
        return x
    known: Any = None
    if y is None:
        known = known_data(x, parts, model.task == "multi_label")
        x, y = known[:2] if isinstance(known, Known) else (known, None)
    if y is None and isinstance(x, (str, os.PathLike)):
        return _folder(model, x, adopt, parts)
    if y is None:
        if isinstance(x, np.ndarray) or not hasattr(x, "__iter__"):
            raise ValueError("fit: y is missing, expected a number or name of a class for each input")
        return IterableBatches(x)
    labels, classes = targets_of(known if isinstance(known, Known) else Known(x, y), model.classes)
    data = Dataset.of(source_of(model, x) or ArraySource(np.asarray(x)), as_targets(labels))
    _fits(model, data, classes)
    if adopt:
        _adopt(model, data, classes)
    return data


def names_of(known: Known) -> list[str]:
    """Return the names of all labels, sorted; those that are numbers by their size.

    Examples
    --------
    >>> names_of(Known(None, np.array(["10", "9"]))), names_of(Known(None, [["b"], ["b", "a"]]))
    (['9', '10'], ['a', 'b'])
    """
    if known.classes is not None:
        return known.classes
    names = {str(name) for group in known.y for name in group} if _is_sets(known.y) else set(map(str, known.y.tolist()))
    are_numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))


def targets_of(known: Known, classes: list[str] | None) -> tuple[Any, list[str] | None]:
    """Return targets as numbers, and the names of the classes where these are known.

    Parameters
    ----------
    known : Known
    classes : list of str, or None
        Names that the outputs of a network have already.

    Raises
    ------
    ValueError
        Naming a label that is not among `classes`, and where it stands.

    Examples
    --------
    >>> targets_of(Known(None, np.array(["dog", "cat"])), None)
    (array([1, 0]), ['cat', 'dog'])
    """
    y = known.y
    if _is_sets(y):
        classes = classes or names_of(known)
        return _labels_of_sets(y, classes, known.places), classes
    labels = np.asarray(y)
    if known.classes is not None and labels.ndim == 2:
        return _columns_as(labels, known, classes), classes or known.classes
    if known.classes is not None and labels.dtype.kind in "iu":
        labels = np.array(known.classes)[labels]  # the network may have another order
        return targets_of_names(labels, classes or known.classes), classes or known.classes
    if labels.dtype.kind not in "UO" or labels.ndim != 1:
        return labels, classes
    if known.places and _are_numbers(labels, classes):
        return labels.astype(np.int64), classes
    classes = classes or names_of(Known(None, labels))
    return targets_of_names(labels, classes, known.places), classes


def _are_numbers(labels: np.ndarray, classes: Sequence[str] | None) -> bool:
    """Whether the labels of a file are numbers of classes, and not names that happen to be numbers."""
    return all(map(str.isdecimal, labels.tolist())) and not any(map(str.isdecimal, classes or ()))


def _columns_as(flags: np.ndarray, known: Known, classes: Sequence[str] | None) -> np.ndarray:
    """Return columns of 0 and 1 in the order of the classes."""
    names = known.classes or []
    if classes is None:
        return flags
    for name in [name for name in names if name not in classes]:
        raise ValueError(f"x has the column {name!r}, {one_of(name, classes)}")
    for name in [name for name in classes if name not in names]:
        raise ValueError(f"x has no column {name!r}, expected one for each class")
    ordered: np.ndarray = flags[:, [names.index(name) for name in classes]]
    return ordered


def _is_sets(y: Any) -> bool:
    """Whether each input has a list of names."""
    return (
        isinstance(y, (list, tuple))
        and all(isinstance(names, (list, tuple, set, frozenset)) for names in y)
        and any(len(names) > 0 for names in y)
        and all(isinstance(name, str) for names in y for name in names)
    )


def _labels_of_sets(y: Sequence[Any], classes: Sequence[str], places: Sequence[str]) -> np.ndarray:
    """Return 1 for the labels that an input has, and 0 for others: (N, labels)."""
    result = np.zeros((len(y), len(classes)), np.float32)
    for i, names in enumerate(y):
        row = targets_of_names(np.array(sorted(names), dtype=str), classes, [places[i]] * len(names) if places else ())
        result[i, row] = 1
    return result


def outputs_of(model: Network, shape: tuple[int, ...]) -> int:
    """Return the number of outputs that a network has for inputs of `shape`.

    Raises
    ------
    ValueError
        If the output is not (N, outputs).
    """
    graph = model.graph(shape)
    output = infer_values(graph, least_batch(graph, shape))[0][graph.outputs[0]] or ()
    if len(output) != 2:
        raise ValueError(f"fit: the network's output is {('N', *output[1:])}, expected (N, outputs)")
    return output[1]


def _folder(model: Network, folder: str | os.PathLike[str], adopt: bool, parts: Sequence[str]) -> Dataset:
    from fastcnn.training.folders import dataset_of_folder

    data, classes = dataset_of_folder(folder, _preprocess(model), model.classes, parts)
    _fits(model, data, classes)
    if adopt:
        _adopt(model, data, classes)
    return data


def source_of(model: Network, x: Any) -> Source | None:
    """Return photos, or what is a source already; None for arrays."""
    if hasattr(x, "load"):
        return cast(Source, x)
    if is_paths(x) or _are_photos(x):
        from fastcnn.training.folders import PhotoSource

        return PhotoSource(x, _preprocess(model))
    return None


def _are_photos(x: Any) -> bool:
    """Whether `x` is a sequence of images of Pillow's, or of pixels (H, W, 3) as photos have them."""
    if isinstance(x, np.ndarray) or not isinstance(x, Sequence) or isinstance(x, str) or not len(x):
        return False
    first = x[0]
    is_pixels = isinstance(first, np.ndarray) and first.dtype == np.uint8 and first.ndim in (2, 3)
    return (
        is_pixels
        or isinstance(first, (str, os.PathLike, bytes))
        or (hasattr(first, "getexif") and hasattr(first, "mode"))
    )


def _preprocess(model: Network) -> Any:
    from fastcnn.training.folders import preprocess_for

    if model.preprocess is not None:
        return model.preprocess
    if model.input_shape is None:
        raise ValueError("fit: the model has neither preprocess nor input_shape, expected one of them for photos")
    return preprocess_for(image_shape(model.input_shape))


def _fits(model: Network, data: Dataset, classes: Sequence[str] | None) -> None:
    outputs = outputs_of(model, data.source.shape)
    if classes is not None and len(classes) != outputs and (outputs, len(classes)) != (1, 2):  # one tells no from yes
        raise ValueError(
            f"fit: the network has {outputs} outputs, expected {len(classes)}, one for each class: {listed(classes)}"
        )
    targets = data.targets
    if targets.ndim == 2 and targets.shape[1] != outputs:
        raise ValueError(f"fit: y.shape={targets.shape}, expected (N, {outputs}) for a network of {outputs} outputs")
    if targets.ndim == 1 and outputs > 1 and not 0 <= targets.min() <= targets.max() < outputs:
        raise ValueError(
            f"fit: y has values from {targets.min()} to {targets.max()}, expected 0 to {outputs - 1} for a network of "
            f"{outputs} outputs"
        )


def _adopt(model: Network, data: Dataset, classes: Sequence[str] | None) -> None:
    shape = data.source.shape
    if model.input_shape != (*shape[1:], shape[0]):  # a network with channels last takes both
        model.input_shape = shape
    if classes is not None:
        model.classes = list(classes)
    if model.preprocess is None and not isinstance(data.source, ArraySource):
        model.preprocess = data.source.preprocess  # type: ignore[attr-defined]
