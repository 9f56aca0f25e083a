"""Data to learn from: inputs with their targets, from arrays or elsewhere, and how they are split and shuffled.

Photos in folders are folders.py's, batches and threads loader.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_seed
from fastcnn._names import one_of
from fastcnn.training.augment import Augment

__all__ = ["ArraySource", "Dataset", "Source", "as_targets", "random_of", "split", "targets_of_names"]

# Streams of random numbers: each purpose draws from its own, so that none depends on what another has used up.
ORDER, IMAGE, BATCH, SPLIT = range(4)


def random_of(seed: int, stream: int, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """Return the random numbers of one purpose, in one epoch, for one image: a counter, not a sequence.

    Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.

    Examples
    --------
    >>> random_of(0, IMAGE, 1, 5).random() == random_of(0, IMAGE, 1, 5).random()
    True
    """
    key = np.array([seed % 2**64, stream], np.uint64)  # of a list of large integers NumPy makes floating-point numbers
    return np.random.Generator(np.random.Philox(key=key, counter=[0, epoch, index, 0]))


class Source(Protocol):
    """Inputs by their number; may be asked by several threads."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def is_slow(self) -> bool:
        """Whether loading is worth a thread."""

    def __len__(self) -> int: ...

    def load(self, index: int, augment: Augment | None, rng: np.random.Generator | None) -> np.ndarray:
        """Return one input, float32, changed if `augment` is given."""

    def name(self, index: int) -> str:
        """Return what messages and reports call an input."""


class ArraySource:
    """Inputs in an array, which may lie in a file (`numpy.memmap`).

    Parameters
    ----------
    x : ndarray (N, ...) of real numbers

    Examples
    --------
    >>> source = ArraySource(np.arange(6).reshape(3, 2))
    >>> len(source), source.shape, source.load(1, None, None)
    (3, (2,), array([2., 3.], dtype=float32))
    """

    is_slow = False

    def __init__(self, x: np.ndarray) -> None:
        if x.dtype.kind not in "biuf":
            raise TypeError(f"fit: x.dtype={x.dtype}, expected a real number type")
        if x.ndim < 2 or not x.size:
            raise ValueError(f"fit: x.shape={x.shape}, expected a batch of inputs, (N, ...), N >= 1")
        self.x = x

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])

    def __len__(self) -> int:
        return len(self.x)

    def load(self, index: int, augment: Augment | None, rng: np.random.Generator | None) -> np.ndarray:
        """Return one input."""
        image = np.asarray(self.x[index], np.float32)
        return image if augment is None or rng is None else augment(image, rng)

    def name(self, index: int) -> str:
        """Return the number of an input."""
        return str(index)


@dataclass(frozen=True)
class Dataset:
    """Inputs and targets.

    Attributes
    ----------
    source : Source
    targets : ndarray
        (N,) int64 numbers of classes; or (N, outputs) float32, probabilities or whatever the loss compares with.
    indices : ndarray, int64
        Which inputs of the source, and rows of the targets, belong to the set.
    weights : ndarray (N,), float64, or None
        How much each input of the source counts in the loss.

    Examples
    --------
    >>> data = Dataset.of(np.zeros((4, 1, 2, 2)), [0, 1, 1, 0])
    >>> len(data), data.subset([3, 1]).labels
    (4, array([0, 1]))
    """

    source: Source
    targets: np.ndarray
    indices: np.ndarray
    weights: np.ndarray | None = None

    @staticmethod
    def of(x: ArrayLike | Source, y: ArrayLike) -> Dataset:
        """Return all of the inputs, with targets as `as_targets` returns them."""
        source = cast(Source, x) if hasattr(x, "load") else ArraySource(np.asarray(x))
        targets = as_targets(y)
        if len(source) != len(targets):
            raise ValueError(f"fit: len(y)={len(targets)}, expected {len(source)}, as many as inputs")
        return Dataset(source, targets, np.arange(len(targets)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> np.ndarray:
        """The targets of the set."""
        chosen: np.ndarray = self.targets[self.indices]
        return chosen

    def subset(self, positions: ArrayLike) -> Dataset:
        """Return the members at these positions of this set."""
        return replace(self, indices=self.indices[np.asarray(positions, np.intp)])


def as_targets(y: ArrayLike) -> np.ndarray:
    """Return targets as int64 (N,), or as float32 (N, outputs).

    Examples
    --------
    >>> as_targets([[0.5, 0.5], [1, 0]]).dtype, as_targets([0.5, 1.5]).shape, as_targets(np.uint8([3])).dtype
    (dtype('float32'), (2, 1), dtype('int64'))
    """
    targets = np.asarray(y)
    if targets.dtype.kind not in "biuf" or targets.ndim not in (1, 2):
        raise ValueError(
            f"fit: y.shape={targets.shape}, y.dtype={targets.dtype}, expected (N,) numbers or names of classes, or "
            "(N, outputs) numbers"
        )
    if targets.dtype.kind == "f":
        if not np.isfinite(targets).all():
            raise ValueError("fit: y has values that are not finite")
        if targets.ndim == 1:
            targets = targets[:, None]
    return np.ascontiguousarray(targets, np.float32 if targets.ndim == 2 else np.int64)


def targets_of_names(names: np.ndarray, classes: Sequence[str], places: Sequence[str] = ()) -> np.ndarray:
    """Return the numbers of classes that are given by name; `places` are what messages call each name.

    Raises
    ------
    ValueError
        Where one is not among `classes`.

    Examples
    --------
    >>> targets_of_names(np.array(["dog", "cat"]), ["cat", "dog"])
    array([1, 0])
    """
    numbers: dict[Any, int] = {name: number for number, name in enumerate(classes)}
    values = names.tolist()
    if places and (row := next((i for i, name in enumerate(values) if name not in numbers), None)) is not None:
        raise ValueError(f"{places[row]}: the label {values[row]!r}, {one_of(values[row], classes)}")
    if unknown := sorted({str(name) for name in values if name not in numbers}):
        raise ValueError(f"y has the class {unknown[0]!r}, {one_of(unknown[0], classes)}")
    return np.array([numbers[name] for name in values], np.int64)


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide into a part to learn from and a part to validate with, each class in the same proportion.

    Parameters
    ----------
    labels : ndarray
        (N,) numbers of classes; (N, outputs) other targets are divided without regard to them.
    share : float
        Part to validate with, between 0 and 1. A class of two images or more has at least one in each part.
    seed : int

    Returns
    -------
    tuple of ndarray
        Positions of both parts, ascending.

    Raises
    ------
    ValueError
        If `share` is out of range, or one of the parts is empty.

    Examples
    --------
    >>> learn, validate = split(np.array([0] * 8 + [1] * 4), 0.25, seed=0)
    >>> len(learn), np.array([0] * 8 + [1] * 4)[validate]
    (9, array([0, 0, 1]))
    """
    if not 0 < share < 1:
        raise ValueError(f"validation={share!r}, expected a number between 0 and 1")
    rng = random_of(as_seed(seed, "split: seed"), SPLIT)
    groups = [np.arange(len(labels))]
    if labels.ndim == 1:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = []
    for group in groups:
        count = min(max(round(share * len(group)), 1), len(group) - 1)
        chosen.append(rng.permutation(group)[:count])
    validate = np.sort(np.concatenate(chosen))
    learn = np.setdiff1d(np.arange(len(labels)), validate, assume_unique=True)
    if not len(validate) or not len(learn):
        raise ValueError(f"validation={share!r} of {len(labels)} inputs leaves one part empty")
    return learn, validate
