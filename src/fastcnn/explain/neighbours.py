"""The photos that a network finds most similar to one, by their embeddings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_int, as_real_array
from fastcnn.inside import embeddings as embed
from fastcnn.inside import inputs_of
from fastcnn.io.image import find_images
from fastcnn.network import Network
from fastcnn.training.prepare import is_paths

__all__ = ["Neighbour", "nearest"]


@dataclass(frozen=True)
class Neighbour:
    """One of the photos that `nearest` finds.

    Parameters
    ----------
    index : int
        Number among the photos.
    name : str
        Its file; of photos that are not files the number.
    similarity : float
        Cosine of the angle between the embeddings, up to 1.

    Examples
    --------
    >>> Neighbour(3, "cats/7.jpg", 0.9).name
    'cats/7.jpg'
    """

    index: int
    name: str
    similarity: float


def nearest(
    model: Network,
    image: Any,
    photos: Any,
    count: int = 5,
    *,
    embeddings: ArrayLike | None = None,
    layer: str | None = None,
    batch_size: int = 32,
) -> list[Neighbour]:
    """Return the photos that are most similar to an image, by their embeddings.

    Parameters
    ----------
    model : Model
    image : photo or array_like
        One image, as for `Model.feature_maps`.
    photos : folder, sequence of photos, or array_like (N, ...)
        Where to look, usually what the model has learned from. Photos that cannot be read are left out.
    count : int
        Photos to return.
    embeddings : array_like (N, features), optional
        What `Model.embed` has given for `photos`, for many questions.
    layer : str, optional
        As for `Model.embed`.
    batch_size : int
        Images that go through the network at once.

    Returns
    -------
    list of Neighbour
        The most similar first.

    Raises
    ------
    ValueError
        If there are no photos, or `embeddings` are not theirs.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> x = np.random.default_rng(0).random((9, 1, 28, 28))
    >>> [found.index for found in nearest(zoo.lenet(rng=0), x[4], x, count=1)]
    [4]
    """
    count = as_int(count, "nearest: count", 1)
    if isinstance(photos, (str, os.PathLike)) and os.path.isdir(photos):
        photos = find_images(photos)
    batch, is_single = inputs_of(model, image, "nearest")
    if not is_single and len(batch) != 1:
        raise ValueError(f"nearest: image has {len(batch)} images, expected one")
    if embeddings is None:
        known = embed(model, photos, batch_size, False, "skip", layer, None)
    else:
        known = as_real_array(embeddings, "nearest: embeddings")
    question = embed(model, batch, batch_size, False, "stop", layer, None)[0]
    if known.ndim != 2 or known.shape[1] != len(question) or len(known) != len(photos):
        raise ValueError(
            f"nearest: embeddings.shape={known.shape}, expected ({len(photos)}, {len(question)}), a row for each photo"
        )
    similarities = _directions(known) @ _directions(question[None])[0]
    order = [int(i) for i in np.argsort(-similarities, kind="stable") if not np.isnan(similarities[i])]
    names = [os.fspath(photo) for photo in photos] if is_paths(photos) else list(map(str, range(len(photos))))
    return [Neighbour(i, str(names[i]), float(similarities[i])) for i in order[:count]]


def _directions(rows: np.ndarray) -> np.ndarray:
    """Return the rows with a length of one; of zeros, zeros."""
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.asarray(wide / np.where(lengths == 0, 1, lengths))
