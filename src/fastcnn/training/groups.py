"""Groups of parameters, made of a network's layers: what decays, and slower learning in layers near the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from fastcnn._arguments import as_float
from fastcnn.layers.base import Layer
from fastcnn.training.optimizers import checked_number

__all__ = ["parameter_groups"]

# Parameters of several axes that are not weights of sums: positions, and tokens.
_EMBEDDINGS = ("*pos_embed*", "*cls_token", "*class_token", "*relative_position_bias_table")


def parameter_groups(
    model: Layer,
    learning_rate: float,
    weight_decay: float,
    *,
    layer_decay: float = 1.0,
    no_decay: Sequence[str] = _EMBEDDINGS,
) -> dict[str | tuple[str, ...], dict[str, float]]:
    """Make the groups that transformers and their kin are trained with, for an optimizer's `groups`.

    Biases, scales and normalisations have no weight decay. With a `layer_decay` below 1, layers near the input, which
    know most after pretraining, learn slower (Clark et al., https://arxiv.org/abs/2003.10555; Bao et al.,
    https://arxiv.org/abs/2106.08254).

    Parameters
    ----------
    model : Layer
    learning_rate, weight_decay : float
        Of the last layers' weights, and of the optimizer.
    layer_decay : float
        Factor of the rate from a layer to the one before it. Layers that count are those with a number in their name,
        as "blocks.3" or "layer1.0". What comes before the first of them has a rate of its own, the lowest. What comes
        after the last one has the full rate.
    no_decay : sequence of str
        Patterns of names without weight decay, although they have two axes or more; by default those of embeddings.

    Returns
    -------
    dict of tuple of str to dict
        Settings of each group, by the names of its parameters.

    Raises
    ------
    ValueError
        If `layer_decay` is not above 0 and at most 1, or another number is negative or infinite.
    TypeError
        If `model` is no layer, or `no_decay` no sequence of strings.

    Examples
    --------
    >>> import fastcnn as fc
    >>> model = fc.Sequential(fc.Linear(4, 8), fc.BatchNorm2d(8), fc.Linear(8, 2))
    >>> for names, settings in parameter_groups(model, 0.1, 0.05, layer_decay=0.5).items():
    ...     print(names, settings)
    ('0.weight',) {'learning_rate': 0.025, 'weight_decay': 0.05}
    ('0.bias',) {'learning_rate': 0.025, 'weight_decay': 0.0}
    ('1.weight', '1.bias') {'learning_rate': 0.05, 'weight_decay': 0.0}
    ('2.weight',) {'learning_rate': 0.1, 'weight_decay': 0.05}
    ('2.bias',) {'learning_rate': 0.1, 'weight_decay': 0.0}
    """
    if not isinstance(model, Layer):
        raise TypeError(f"parameter_groups: model: got {type(model).__name__}, expected a Layer")
    full_rate = checked_number(learning_rate, "parameter_groups: learning_rate")
    full_decay = checked_number(weight_decay, "parameter_groups: weight_decay")
    factor = as_float(layer_decay, "parameter_groups: layer_decay")
    if not 0 < factor <= 1:
        raise ValueError(f"parameter_groups: layer_decay={layer_decay}, expected a number above 0, at most 1")
    patterns = _checked_patterns(no_decay)
    arrays = dict(model.named_parameters())
    depths = _depths(list(arrays))
    last = max(depths.values(), default=0)
    names: dict[tuple[float, float], list[str]] = {}
    for name, array in arrays.items():
        rate = full_rate * factor ** (last - depths[name])
        names.setdefault((rate, _decay(name, array, full_decay, patterns)), []).append(name)
    return {tuple(members): {"learning_rate": rate, "weight_decay": decay} for (rate, decay), members in names.items()}


def _checked_patterns(no_decay: Any) -> tuple[str, ...]:
    is_sequence = isinstance(no_decay, Sequence) and not isinstance(no_decay, (str, bytes))
    if not is_sequence or not all(isinstance(pattern, str) for pattern in no_decay):
        raise TypeError(f"parameter_groups: no_decay={no_decay!r}, expected a sequence of patterns of names")
    return tuple(no_decay)


def _decay(name: str, array: np.ndarray, weight_decay: float, no_decay: Sequence[str]) -> float:
    is_free = array.ndim < 2 or any(fnmatchcase(name, pattern) for pattern in no_decay)
    return 0.0 if is_free else weight_decay


def _depths(names: Sequence[str]) -> Mapping[str, int]:
    """Number the layers: 0 before the first that has a number in its name, then one more for each of those."""
    layers = {name: _numbered(name) for name in names}
    numbered = [layer for layer in layers.values() if layer]
    places = {layer: place for place, layer in enumerate(dict.fromkeys(numbered), start=1)}
    left = len(numbered)
    depths, depth = {}, 0
    for name, layer in layers.items():
        if layer:
            depth, left = places[layer], left - 1
        elif not left and numbered:
            depth = len(places) + 1
        depths[name] = depth
    return depths


def _numbered(name: str) -> str:
    """The part of a name up to its first number; empty where it has none."""
    parts = name.split(".")
    end = next((i for i, part in enumerate(parts, 1) if part.isdigit()), 0)
    return ".".join(parts[:end])
