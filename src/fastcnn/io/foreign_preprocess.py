"""Preprocessing as timm and transformers describe it, as a `Preprocess`. model_folder.py reads their files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastcnn.io.preprocess import Preprocess

__all__ = ["preprocess_of_timm", "preprocess_of_transformers"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The members of PIL.Image.Resampling by their numbers; those that are missing here do not stand in Preprocess.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Processors that resize and crop as read below, and their defaults for `resample`.
_PROCESSORS = {"ConvNext": 2, "ViT": 2, "MobileNetV1": 2, "MobileNetV2": 2, "CLIP": 3, "Bit": 3}
_WARPED_FROM = 384  # pixels from which the ConvNext processor does not crop
# Steps that Preprocess does not know.
_UNKNOWN_STEPS = ("do_pad", "do_flip_channel_order", "rescale_offset", "include_top")


def preprocess_of_timm(config: Mapping[str, Any]) -> Preprocess:
    """Return what timm's evaluation does with a photo.

    Parameters
    ----------
    config : mapping
        ``pretrained_cfg``. What it lacks has timm's defaults.

    Raises
    ------
    ValueError, TypeError
        If it asks for what `Preprocess` does not do, or is damaged.

    Examples
    --------
    >>> preprocess_of_timm({"input_size": [3, 224, 224], "crop_pct": 0.95}).crop_fraction
    0.95
    """
    channels, height, width = _sizes(config.get("input_size", (3, 224, 224)), 3, "input_size")
    mode, fraction = config.get("crop_mode") or "center", config.get("crop_pct", 0.875)
    resizes = {"center": "crop", "squash": "stretch", "border": "letterbox"}
    if mode not in resizes or (mode == "border" and fraction != 1):
        raise ValueError(f"crop_mode={mode!r} with crop_pct={fraction!r}, expected 'center', or 'squash'")
    mean, std = (config.get(name, known) for name, known in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)))
    return Preprocess(
        (height, width),
        fraction,
        config.get("interpolation", "bicubic"),
        _scaled(mean, 255, "mean", channels),
        _scaled(std, 255, "std", channels),
        resizes[mode],
    )


def preprocess_of_transformers(config: Mapping[str, Any]) -> Preprocess:
    """Return what an image processor of transformers does with a photo.

    Parameters
    ----------
    config : mapping
        The content of preprocessor_config.json.

    Raises
    ------
    ValueError, TypeError
        If it asks for what `Preprocess` does not do, or is damaged.

    Examples
    --------
    >>> vit = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}, "resample": 2}
    >>> found = preprocess_of_transformers(vit | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    >>> found.size, found.resize, found.mean
    ((8, 8), 'stretch', (127.5, 127.5, 127.5))
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    family = kind.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if family not in _PROCESSORS:
        raise ValueError(f"{kind[:60]} is not known, expected one of {', '.join(_PROCESSORS)}")
    for step in _UNKNOWN_STEPS:
        if config.get(step):
            raise ValueError(f"{step}={config[step]!r}, which is not supported")
    if not config.get("do_resize", True):
        raise ValueError("do_resize=False, expected photos that are resized")
    resample = config.get("resample", _PROCESSORS[family])
    if resample not in _RESAMPLING:
        raise ValueError(f"resample={resample!r}, expected one of {', '.join(map(str, _RESAMPLING))}")
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
        raise ValueError(f"rescale_factor={factor!r}, expected a number above 0")
    mean, std = config.get("image_mean"), config.get("image_std")
    if not config.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    size, fraction, resize = _of_convnext(config) if family == "ConvNext" else _of_others(config)
    return Preprocess(
        size,
        fraction,
        _RESAMPLING[resample],
        _scaled(mean, 1 / factor, "image_mean"),
        _scaled(std, 1 / factor, "image_std"),
        resize,
    )


def _of_convnext(config: Mapping[str, Any]) -> tuple[tuple[int, int], float, str]:
    size = config.get("size", 224)
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    (edge,) = _sizes([edge], 1, "size")
    if edge >= _WARPED_FROM:
        return (edge, edge), 1.0, "stretch"
    return (edge, edge), config.get("crop_pct") or 224 / 256, "crop"


def _of_others(config: Mapping[str, Any]) -> tuple[tuple[int, int], float, str]:
    given = config.get("size", 224)
    size = given if isinstance(given, Mapping) else {"shortest_edge": given}
    crops = config.get("do_center_crop", "crop_size" in config)
    if not crops:
        if isinstance(given, Mapping) and "height" not in given:
            raise ValueError(f"size={given!r} without do_center_crop, expected height and width")
        height, width = _pair(given, "size")
        return (height, width), 1.0, "stretch"
    height, width = _pair(config.get("crop_size", 224), "crop_size")
    if "height" in size:
        if _pair(size, "size") != (height, width):
            raise ValueError(f"size={given!r} with crop_size={config.get('crop_size')!r}, expected the same")
        return (height, width), 1.0, "stretch"
    (edge,) = _sizes([size.get("shortest_edge")], 1, "size")
    if height != width or edge < height:
        raise ValueError(f"size={given!r} with crop_size={config.get('crop_size')!r}, expected a square within")
    fraction = height / edge
    if math.floor(height / fraction) != edge:  # rounded down, it would be a pixel less
        fraction = height / (edge + 1e-6)
    return (height, width), fraction, "crop"


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = (value.get("height"), value.get("width")) if isinstance(value, Mapping) else (value, value)
    height, width = _sizes(pair, 2, name)
    return height, width


def _sizes(values: Any, count: int, name: str) -> tuple[int, ...]:
    if (
        not isinstance(values, (list, tuple))
        or len(values) != count
        or not all(type(v) is int and v > 0 for v in values)
    ):
        raise ValueError(f"{name}={values!r}, expected {count} whole numbers above 0")
    return tuple(values)


def _scaled(values: Any, factor: float, name: str, channels: int | None = None) -> tuple[float, ...]:
    are_numbers = isinstance(values, (list, tuple)) and all(type(v) in (int, float) for v in values)
    if not are_numbers or len(values) != (channels or len(values)):
        raise ValueError(f"{name}={values!r}, expected {channels or 3} numbers")
    return tuple(factor * value for value in values)
