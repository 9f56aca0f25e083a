"""scikit-learn's conventions, kept without needing scikit-learn: parameters, tags, and what inputs and labels may be.

Messages are worded as scikit-learn words them. Its own base classes and exceptions are used where it is installed.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from fastcnn._arguments import as_array, as_real_array
from fastcnn._table import as_html

__all__ = [
    "Parameters",
    "check_feature_names",
    "checked_inputs",
    "checked_labels",
    "checked_weights",
    "feature_names",
    "not_fitted",
]

Self = TypeVar("Self", bound="Parameters")


try:
    from sklearn.base import BaseEstimator, ClassifierMixin

    _BASES: tuple[Any, ...] = (ClassifierMixin, BaseEstimator)
except ImportError:
    _BASES = ()


class Parameters(*_BASES):  # type: ignore[misc]
    """scikit-learn's BaseEstimator and ClassifierMixin, where it is installed, and what other tools call of them:
    constructor arguments by name, also those of an argument that is a dataclass (``augment__flip``), and tags."""

    _estimator_type = "classifier"

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name.

        Parameters
        ----------
        deep : bool
            Whether fields of arguments that are dataclasses are there too, as ``augment__flip``.

        Returns
        -------
        dict

        Examples
        --------
        >>> import fastcnn as fc
        >>> fc.ImageClassifier(epochs=3, augment=fc.Augment(flip=False)).get_params()["augment__flip"]
        False
        """
        own = {name: getattr(self, name) for name in self._parameter_names()}
        nested = {
            f"{name}__{field.name}": getattr(value, field.name)
            for name, value in own.items()
            if deep and is_dataclass(value) and not isinstance(value, type)
            for field in fields(value)
        }
        return {**own, **nested}

    def set_params(self: Self, **parameters: Any) -> Self:
        """Set arguments of the constructor anew.

        Parameters
        ----------
        **parameters
            Arguments of the constructor, and fields of arguments that are dataclasses, as ``augment__flip=False``.

        Returns
        -------
        ImageClassifier
            Itself.

        Raises
        ------
        ValueError
            If there is no argument of this name.

        Examples
        --------
        >>> import fastcnn as fc
        >>> fc.ImageClassifier(augment=fc.Augment()).set_params(augment__flip=False).augment.flip
        False
        """
        known = self._parameter_names()
        for name, value in sorted(parameters.items(), key=lambda item: "__" in item[0]):  # wholes before parts
            owner, _, field = name.partition("__")
            if owner not in known or (field and not _has_field(getattr(self, owner), field)):
                kind = type(self).__name__
                raise ValueError(f"Invalid parameter {name!r} for estimator {kind}(). Valid parameters are: {known!r}.")
            setattr(self, owner, replace(getattr(self, owner), **{field: value}) if field else value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if value is not defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn's tools must know: a classifier of several classes, of arrays of any rank."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=True),
        )


def _has_field(value: Any, name: str) -> bool:
    return is_dataclass(value) and name in {field.name for field in fields(value)}


def not_fitted(estimator: object) -> Exception:
    """Return the exception of an estimator that has learned nothing yet: scikit-learn's own, where it is installed."""
    kind: type[Exception] = _exception("NotFittedError", ValueError)
    return kind(
        f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments "
        "before using this estimator."
    )


def checked_weights(weights: Any, count: int) -> np.ndarray | None:
    """Return the weights of `count` inputs, (N,) float64; None stays None.

    Raises
    ------
    ValueError
        As scikit-learn's ``_check_sample_weight``.

    Examples
    --------
    >>> checked_weights([1, 2], 2).tolist()
    [1.0, 2.0]
    """
    if weights is None:
        return None
    array = as_real_array(weights, "sample_weight")
    if array.ndim == 0:
        array = np.full(count, array)
    if array.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {array.ndim}D array.")
    if array.shape != (count,):
        raise ValueError(f"sample_weight.shape == {array.shape}, expected {(count,)}!")
    checked: np.ndarray = array.astype(np.float64)
    return checked


def checked_inputs(x: Any) -> np.ndarray:
    """Return inputs as an array of finite real numbers, (N, features) or of more axes.

    Raises
    ------
    TypeError, ValueError
        As scikit-learn's ``check_array``.

    Examples
    --------
    >>> checked_inputs([[1, 2]]).shape
    (1, 2)
    """
    if hasattr(x, "toarray"):
        raise TypeError("Sparse data was passed, but dense data is required. Use '.toarray()' to convert it.")
    array = as_array(x, "X")
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.dtype.kind not in "biuf":
        try:
            array = array.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"X: {error}") from None
    if array.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead:\narray={array}.\nReshape your data either using "
            "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains a single "
            "sample."
        )
    if not len(array):
        raise ValueError(f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required.")
    if not array.size:
        raise ValueError(f"Found array with 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        found = "NaN" if np.isnan(array).any() else "infinity or a value too large for dtype('float32')"
        raise ValueError(f"Input X contains {found}.")
    return array


def feature_names(x: Any) -> np.ndarray | None:
    """Return the names of a data frame's columns; None where there are none, or they are no strings.

    Raises
    ------
    TypeError
        If some are strings, and some are not.
    """
    columns = getattr(x, "columns", None)
    if columns is None or isinstance(columns, np.ndarray) or not hasattr(columns, "__iter__"):
        return None
    names = list(columns)
    kinds = sorted({type(name).__name__ for name in names})
    if "str" not in kinds:
        return None
    if kinds != ["str"]:
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{kinds} as feature name / column name types. If you want feature names to be stored and validated, you "
            "must convert them all to strings, by using X.columns = X.columns.astype(str) for example."
        )
    return np.array(names, object)


def check_feature_names(given: np.ndarray | None, fitted: np.ndarray | None, estimator: object) -> None:
    """Refuse data whose columns have other names, or another order, than those that the estimator was fit on.

    Raises
    ------
    ValueError
        As scikit-learn's estimators; where one of both has no names, there is a warning.
    """
    kind = type(estimator).__name__
    if given is None or fitted is None:
        if fitted is not None:
            text = f"X does not have valid feature names, but {kind} was fitted with feature names"
            warnings.warn(text, UserWarning, stacklevel=4)
        if given is not None:
            text = f"X has feature names, but {kind} was fitted without feature names"
            warnings.warn(text, UserWarning, stacklevel=4)
        return
    if list(given) == list(fitted):
        return
    lines = ["The feature names should match those that were passed during fit."]
    unseen, missing = sorted(set(given) - set(fitted)), sorted(set(fitted) - set(given))
    for title, names in (("unseen at fit time", unseen), ("seen at fit time, yet now missing", missing)):
        if names:
            lines += [f"Feature names {title}:", *(f"- {name}" for name in names[:5]), *["- ..."] * (len(names) > 5)]
    if not unseen and not missing:
        lines.append("Feature names must be in the same order as they were in fit.")
    raise ValueError("\n".join([*lines, ""]))


def checked_labels(y: Any, count: int, estimator: object) -> np.ndarray:
    """Return the labels of N inputs, (N,) integers, strings or bools.

    Raises
    ------
    ValueError
        As scikit-learn's ``check_classification_targets``.

    Examples
    --------
    >>> checked_labels(["cat", "dog"], 2, None).tolist()
    ['cat', 'dog']
    """
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    labels = as_array(y, "y")
    if labels.ndim == 2 and labels.shape[1] == 1:
        _warn_of_column(labels)
        labels = labels.ravel()
    if labels.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {labels.shape} instead.")
    if len(labels) != count:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{count}, {len(labels)}]")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise ValueError("Input y contains NaN or infinity.")
        if (labels != np.round(labels)).any():
            raise ValueError(
                "Unknown label type: continuous. Maybe you are trying to fit a classifier, which expects "
                "discrete classes on a regression target with continuous values."
            )
    return labels


def _warn_of_column(labels: np.ndarray) -> None:
    kind: type[Warning] = _exception("DataConversionWarning", UserWarning)
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
        f"(n_samples,), for example using ravel(); got {labels.shape}",
        kind,
        stacklevel=4,
    )


def _exception(name: str, base: Any) -> Any:
    """Return scikit-learn's own kind of exception, or Python's that it is derived from."""
    try:
        from sklearn import exceptions
    except ImportError:
        return base
    return getattr(exceptions, name)
