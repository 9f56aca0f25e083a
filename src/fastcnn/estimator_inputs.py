"""What an `ImageClassifier` is given: the network, and the data it learns from with their axes and scaling.

Conventions of scikit-learn are _sklearn.py's, reading photos training/folders.py's.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn._arguments import as_array, as_flag, as_seed
from fastcnn.errors import FastcnnWarning
from fastcnn.model import Model
from fastcnn.training.data import ArraySource, Source
from fastcnn.training.defaults import class_weight_for
from fastcnn.training.folders import PhotoSource, preprocess_for
from fastcnn.training.prepare import is_paths, outputs_of

__all__ = [
    "begins_pretrained",
    "build_network",
    "channels_first",
    "check_shape",
    "class_weight_of",
    "numbered",
    "of_classes",
    "prepare_network",
    "seed_of",
    "shape_for",
    "source_for",
    "takes_rows",
]

_ROW_DEVIATIONS = 3.0  # that are 1 for the network for rows: its tanh clips features there
_CHANNELS = (1, 3, 4)
_AT_A_TIME = 1 << 20  # numbers that are read for mean and deviation: eight bytes each, and their squares
_PHOTO_SIZE = 64  # of photos in files, for networks that do not say what they want
_PHOTO_ABOVE = 64  # pixels high and wide; networks for photos see little in smaller images


def channels_first(x: np.ndarray, input_shape: Sequence[int] | None) -> np.ndarray:
    """Return images as (N, C, H, W), rows of features as they are.

    Raises
    ------
    ValueError
        If the number of axes, or of features, is another one.

    Examples
    --------
    >>> channels_first(np.zeros((2, 8, 8, 3)), None).shape, channels_first(np.zeros((2, 64)), (1, 8, 8)).shape
    ((2, 3, 8, 8), (2, 1, 8, 8))
    """
    if x.ndim == 2:
        if input_shape is None:
            return x
        shape = tuple(input_shape)
        if x.shape[1] != np.prod(shape):
            raise ValueError(f"X has {x.shape[1]} features, expected {int(np.prod(shape))} for input_shape={shape}")
        return x.reshape(-1, *shape)
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise ValueError(f"X.shape={x.shape}, expected (N, features), (N, H, W), (N, C, H, W) or (N, H, W, C)")
    channels_last = x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS
    return x.transpose(0, 3, 1, 2) if channels_last else x


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    """Refuse inputs of another shape than those that a classifier was fit on.

    Raises
    ------
    ValueError
        In scikit-learn's words, where the number of features differs.
    """
    features, count = int(np.prod(shape)), int(np.prod(expected))
    if features != count:
        raise ValueError(f"X has {features} features, but {name} is expecting {count} features as input.")
    if shape != expected:
        raise ValueError(f"X: inputs are {shape}, but {name} was fit on inputs of {expected}")


def begins_pretrained(given: Any, network: Any, input_shape: Sequence[int] | None, inputs: Any) -> bool:
    """Whether a classifier begins with ImageNet weights: as given; for "auto" with few photos, if they are installed.

    Warns
    -----
    FastcnnWarning
        Of what "auto" has come to, or how the weights are installed. `fit` calls this, and its caller is warned.
    """
    from fastcnn.zoo.pretrained import start_for

    if not isinstance(given, str) or given != "auto":
        try:
            return bool(as_flag(given, "ImageClassifier: pretrained"))
        except TypeError as error:
            raise TypeError(f"{error}, or 'auto'") from None
    is_free = isinstance(network, str) and network == "auto" and input_shape is None
    if not is_free or not (is_paths(inputs) or _are_large_photos(inputs)):
        return False
    start = start_for(len(inputs))
    if start.line:
        warnings.warn(f"ImageClassifier: {start.line} (pretrained=False begins from scratch)", FastcnnWarning, 3)
    return start.name is not None


def build_network(
    network: Any, pretrained: bool, shape: tuple[int, ...], classes: int, seed: int, photos: Sequence[int] | None = None
) -> Model:
    """Return the network of a classifier, see `ImageClassifier`, for inputs of a shape; `photos` is what files become.

    Raises
    ------
    ValueError, TypeError
        If it is no network, or has not an output for each class.
    """
    from fastcnn import zoo
    from fastcnn.zoo.pretrained import DEFAULT
    from fastcnn.zoo.small import small_network

    if pretrained:
        if not isinstance(network, str):
            raise ValueError(
                "ImageClassifier: pretrained=True, expected the name of a network, as 'efficientnet_lite0'"
            )
        name = DEFAULT if network == "auto" else network
        model = zoo.load_pretrained(name, num_classes=classes, rng=seed)
        if photos is not None and tuple(photos) != model.input_shape:
            raise ValueError(
                f"ImageClassifier: input_shape={photos!r}, but {name} takes {model.input_shape}, to which photos "
                "are resized: expected None"
            )
        return model
    if isinstance(network, str):
        if network == "auto":
            return small_network(shape, classes, rng=seed)
        model = zoo.build(network, num_classes=classes, in_channels=shape[0], rng=seed)
    elif isinstance(network, Model):
        model = copy.deepcopy(network)
    elif callable(network):
        model = network(shape, classes)
    else:
        raise TypeError(f"ImageClassifier: network={network!r}, expected a name, a Model or a function")
    if (outputs := outputs_of(model, shape)) != classes and (outputs, classes) != (1, 2):
        raise ValueError(f"ImageClassifier: network has {outputs} outputs, expected {classes}, one for each class")
    model.task = "binary" if outputs == 1 else None
    return model


def takes_rows(network: Any, shape: tuple[int, ...]) -> bool:
    """Whether inputs of a shape get the network that is built by default for rows of features."""
    from fastcnn.zoo.small import is_image

    return isinstance(network, str) and network == "auto" and not is_image(shape)


def prepare_network(model: Model, inputs: Any, classes: np.ndarray, takes_photos: bool, network: Any) -> None:
    """Let a network hold what it needs to be used: names of classes, shape, scaling of numbers or preprocessing."""
    counted = classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes)))
    model.classes = None if counted else [str(name) for name in classes.tolist()]
    if takes_photos:
        if model.preprocess is None:
            model.preprocess = preprocess_for(model.input_shape or ())
        return
    model.input_shape = inputs.shape[1:]
    if _are_photos(inputs) and model.preprocess is None:
        from fastcnn.io.preprocess import Preprocess

        channels = inputs.shape[1]
        model.preprocess = Preprocess(
            inputs.shape[2:], 1.0, "bilinear", (0,) * channels, (1,) * channels
        )  # the network scales
    if model.scaling is None:
        axes = (0, *range(2, inputs.ndim))
        mean, deviation = _mean_and_deviation(inputs, axes)
        # Below rounding, a feature is constant.
        deviation[deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-30)] = 1
        model.scaling = mean, deviation * (_ROW_DEVIATIONS if takes_rows(network, model.input_shape) else 1)


def of_classes(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return probabilities that are those of the classes.

    Raises
    ------
    ValueError
        If they are not as many: the network has got another head since.
    """
    if probabilities.shape[1] != len(classes):
        raise ValueError(f"predict: model_ has {probabilities.shape[1]} outputs, expected {len(classes)}, as classes_")
    return probabilities


def shape_for(inputs: Any, given: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of an input: as given for files, as it is for arrays, which have to agree.

    Raises
    ------
    ValueError
        If they do not.
    """
    if is_paths(inputs):
        return tuple(given or (3, _PHOTO_SIZE, _PHOTO_SIZE))
    shape = tuple(inputs.shape[1:])
    if given is not None and tuple(given) != shape:
        raise ValueError(f"X: inputs are {shape}, expected {tuple(given)} for input_shape={given!r}")
    return shape


def source_for(model: Model, inputs: Any, takes_photos: bool) -> Source:
    """Return inputs as the network takes them.

    Raises
    ------
    ValueError
        If they are photos where the network has learned from numbers, or numbers where it has learned from photos.
    """
    if not takes_photos and not is_paths(inputs):
        return ArraySource(inputs)
    if model.preprocess is None:
        raise ValueError("X holds files, expected arrays, as the classifier was fit on")
    return PhotoSource(_photos(inputs), model.preprocess)


def _are_photos(inputs: np.ndarray) -> bool:
    return inputs.dtype == np.uint8 and inputs.ndim == 4 and inputs.shape[1] in (1, 3)


def _are_large_photos(inputs: np.ndarray) -> bool:
    return _are_photos(inputs) and inputs.shape[1] == 3 and min(inputs.shape[2:]) >= _PHOTO_ABOVE


def _photos(inputs: Any) -> list[Any]:
    if is_paths(inputs):
        return list(inputs)
    if not _are_photos(inputs):
        raise ValueError(
            f"X.dtype={inputs.dtype}, X.shape={inputs.shape}, expected files, or uint8 (N, H, W, C), for a network "
            "that takes photos"
        )
    return list(inputs.transpose(0, 2, 3, 1))


def numbered(labels: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that there are, sorted, and the number of each."""
    try:
        return np.unique(as_array(labels, name), return_inverse=True)
    except TypeError as error:
        raise TypeError(f"{name}: {error}, expected labels of one type") from None


def class_weight_of(given: Any, classes: np.ndarray, targets: np.ndarray) -> Any:
    """Return the `class_weight` of an estimator in the numbers of classes, as `Model.fit` takes it.

    Warns
    -----
    FastcnnWarning
        Where "auto" has come to "balanced". `fit` calls this, and its caller is warned.
    """
    if isinstance(given, str) and given == "auto":
        found = class_weight_for(targets)
        if found.value is not None:
            warnings.warn(f"ImageClassifier: {found.line} (class_weight=None: inputs do)", FastcnnWarning, 3)
        return found.value
    if isinstance(given, Mapping):
        numbers = {label: i for i, label in enumerate(classes.tolist())}
        return {numbers[label]: weight for label, weight in given.items() if label in numbers}
    return given


def seed_of(random_state: Any) -> int:
    """Return the seed that a ``random_state`` of scikit-learn's stands for; drawn, where it is a generator or None."""
    if random_state is None or random_state is np.random:
        return int(np.random.randint(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    expected = "an integer >= 0, a numpy.random.RandomState or None"
    return as_seed(random_state, "ImageClassifier: random_state", expected)


def _mean_and_deviation(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return both in float64, of some images at a time: NumPy's own would take eight bytes for each number."""
    count = x.size // max(x.shape[1], 1)
    images = max(1, _AT_A_TIME * len(x) // max(x.size, 1))
    parts = [x[start : start + images] for start in range(0, len(x), images)]
    mean = np.asarray(sum(part.sum(axis=axes, dtype=np.float64) for part in parts) / count)
    along = mean.reshape(-1, *(1,) * (x.ndim - 2))
    squares = sum(np.square(np.subtract(part, along, dtype=np.float64)).sum(axis=axes) for part in parts)
    return mean, np.sqrt(np.asarray(squares / count))
