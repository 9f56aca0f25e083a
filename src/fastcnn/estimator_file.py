"""`ImageClassifier` as a file: its model's, with what the classifier knows beside as metadata."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.loading import load
from fastcnn.model import Model
from fastcnn.model_format import save

__all__ = ["load_classifier", "save_classifier", "with_scaling"]

_KINDS = "iufbU"  # of labels that JSON can tell


def save_classifier(classifier: Any, path: str | os.PathLike[str]) -> None:
    """Write a classifier that was fit; see `ImageClassifier.save`."""
    state = {
        "parameters": {name: value for name, value in classifier.get_params().items() if _is_plain(value)},
        "classes": classifier.classes_.tolist(),
        "kind": classifier.classes_.dtype.kind,
        "takes_photos": classifier._takes_photos,
        "shape": [int(size) for size in classifier._shape],
        "seed": classifier._seed,
        "n_iter": classifier.n_iter_,
        "loss_curve": [float(loss) for loss in classifier.loss_curve_],
        "feature_names": list(classifier.__dict__.get("feature_names_in_", [])),
    }
    if state["kind"] not in _KINDS:
        state["kind"] = "U"
        state["classes"] = [str(name) for name in state["classes"]]
    save(classifier.model_, path, json.dumps(state, ensure_ascii=False))


def load_classifier(cls: Any, path: str | os.PathLike[str]) -> Any:
    """Read a classifier; see `ImageClassifier.load`."""
    model = load(path)
    text = model._estimator
    try:
        return _classifier(cls, model, {} if text is None else json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelLoadError(f"{os.fspath(path)}: metadata 'estimator': {error}") from error


def with_scaling(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes in a pickle; one of version 0.1 scaled inputs before the network."""
    if "_scale" not in state:
        return state
    state = dict(state)
    scale, model = state.pop("_scale"), state["model_"]
    if scale is not None:
        model.scaling = scale[0].ravel(), scale[1].ravel()
    return {**state, "_takes_photos": scale is None, "_shape": model.input_shape or ()}


def _classifier(cls: Any, model: Model, state: dict[str, Any]) -> Any:
    known = cls._parameter_names()
    parameters = {name: value for name, value in state.get("parameters", {}).items() if name in known}
    result = cls(**{"network": model, **parameters})
    shape = tuple(int(size) for size in state.get("shape", model.input_shape or ()))
    classes = state.get("classes", model.classes)
    if classes is None:
        classes = list(range(_outputs(model, shape)))
    result.classes_ = np.array(classes) if "kind" not in state else np.array(classes).astype(_kind(state["kind"]))
    if result.classes_.ndim != 1 or len(result.classes_) != _outputs(model, shape):
        raise ValueError(f"{len(classes)} classes, expected {_outputs(model, shape)}, one for each output")
    result.model_, result._shape, result._seed = model, shape, int(state.get("seed", 0))
    result._takes_photos = bool(state.get("takes_photos", model.preprocess is not None))
    result.n_iter_ = int(state.get("n_iter", 0))
    result.loss_curve_ = [float(loss) for loss in state.get("loss_curve", [])]
    result._trainer = result._trainer_state = None
    if not result._takes_photos:
        result.n_features_in_ = int(np.prod(shape))
    if state.get("feature_names"):
        result.feature_names_in_ = np.array(state["feature_names"], object)
    return result


def _outputs(model: Model, shape: tuple[int, ...]) -> int:
    return int(model.predict_proba(np.zeros((1, *shape), np.float32)).shape[1])


def _kind(kind: str) -> str:
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r}, expected one of {_KINDS}")
    return {"i": "int64", "u": "uint64", "f": "float64", "b": "bool", "U": "str"}[kind]


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
