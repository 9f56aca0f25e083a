"""Data sets from the arguments of `Model.fit` and `Model.evaluate`, checked against the model.

Arguments are arrays, iterables, lists of files or folders of classes; tables.py reads others. The model changes only
after all checks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from fastcnn._names import listed
from fastcnn.network import Network
from fastcnn.training.data import ArraySource, Dataset, Source, as_targets, targets_of_names
from fastcnn.training.loader import IterableBatches
from fastcnn.training.tables import Known, known_data

__all__ = ["is_batch", "is_paths", "outputs_of", "prepare", "source_of"]


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
    named: list[str] | None = None
    if y is None:
        known = known_data(x, parts)
        x, y, named = known if isinstance(known, Known) else (known, None, None)
    if y is None and isinstance(x, (str, os.PathLike)):
        return _folder(model, x, adopt, parts)
    if y is None:
        if isinstance(x, np.ndarray) or not hasattr(x, "__iter__"):
            raise ValueError("fit: y is missing, expected a number or name of a class for each input")
        return IterableBatches(x)
    classes = model.classes or named
    if named is not None and named != classes and np.ndim(y) == 1:
        y = np.array(named)[np.asarray(y)]  # the model has another order
    labels = _labels_of_sets(y, classes) if _is_sets(y) else np.asarray(y)
    if _is_sets(y):
        classes = classes or sorted({str(name) for names in y for name in names})
    elif labels.dtype.kind in "UO" and labels.ndim == 1:
        classes = classes or sorted({str(label) for label in labels.tolist()})
        labels = targets_of_names(labels, classes)
    data = Dataset.of(source_of(model, x) or ArraySource(np.asarray(x)), as_targets(labels))
    _fits(model, data, classes)
    if adopt:
        _adopt(model, data, classes)
    return data


def _is_sets(y: Any) -> bool:
    """Whether each input has a list of names."""
    return (
        isinstance(y, (list, tuple))
        and all(isinstance(names, (list, tuple, set, frozenset)) for names in y)
        and any(len(names) > 0 for names in y)
        and all(isinstance(name, str) for names in y for name in names)
    )


def _labels_of_sets(y: Sequence[Any], classes: Sequence[str] | None) -> np.ndarray:
    """Return 1 for the labels that an input has, and 0 for others: (N, labels)."""
    known = classes or sorted({str(name) for names in y for name in names})
    result = np.zeros((len(y), len(known)), np.float32)
    for row, names in zip(result, y, strict=True):
        row[targets_of_names(np.array(sorted(names), dtype=str), known)] = 1
    return result


def outputs_of(model: Network, shape: tuple[int, ...]) -> int:
    """Return the number of outputs that a network has for inputs of `shape`.

    Raises
    ------
    ValueError
        If the output is not (N, outputs).
    """
    graph = model._kernel_graph(shape)
    output = graph.infer(dict.fromkeys(graph.inputs, (1, *shape)))[graph.outputs[0]]
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
    return preprocess_for(model.input_shape)


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
    model.input_shape = data.source.shape
    if classes is not None:
        model.classes = list(classes)
    if model.preprocess is None and not isinstance(data.source, ArraySource):
        model.preprocess = data.source.preprocess  # type: ignore[attr-defined]
