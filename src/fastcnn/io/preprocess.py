"""Preprocesses photos for networks: resizes them, and normalises them here or in the first step of a plan.

_load.py reads photos, _fit.py resizes them, and kernels/_reorder normalises pixels by a table. Augmentation and reading
ahead in threads are part of training.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastcnn._arguments import as_array, as_choice, as_float, as_int, as_pair, as_real_array
from fastcnn.io._fit import RESIZES, Box, covered, grey, middle, stretched, whole
from fastcnn.io._load import MAX_PIXELS, load_image

if TYPE_CHECKING:
    from fastcnn.io._load import ImageSource

__all__ = ["Pixels", "Preprocess", "image_shape", "images_to_batch"]

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
_SMALLEST_CROP = 0.01
_GAP = 2  # a photo is decoded this many times larger than its resized form, at least: Pillow's `reducing_gap`
_MAX_SIZE = 8192  # a batch of one image takes 805 MB
# Beyond these limits, float32 loses the digits of a pixel from 0 to 255.
_LARGEST_MEAN = 1e6
_STD_RANGE = (1e-6, 1e6)
_NEWER = ("resize", "padding")  # settings that files of before lack


@dataclass(frozen=True)
class Preprocess:
    """Turns a photo into the input of a network: its middle, or all of it, resized and normalised.

    By default the photo is resized, keeping its proportions, until it just covers ``size / crop_fraction``. The middle
    `size` of that is kept. Each pixel, from 0 to 255, becomes ``(pixel - mean) / std``. torchvision's
    ``Resize(size / crop_fraction)`` and ``CenterCrop(size)`` give the same to within a grey level, but also compute
    the pixels that they crop. The defaults are those of EfficientNet-Lite0.

    JPEG files of at least four times that size, in height and width, are decoded at a half, a quarter or an eighth of
    it. Pixels then differ from those of the fully decoded photo by one or two grey levels in the mean.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the result, up to 8192. It is kept as a pair.
    crop_fraction : float
        Part of the shorter side that is kept, from 0.01 to 1. timm calls it ``crop_pct``. It counts for "crop" alone.
    interpolation : str
        "nearest", "bilinear", "bicubic" or "lanczos". They are Pillow's, which smooths when shrinking.
    mean, std : three floats, or one
        For red, green and blue, in units of pixel values from 0 to 255. Multiply values for pixels from 0 to 1 by 255.
        One number stands for a network of one channel. Photos become grey for it, as in Pillow's mode L (ITU-R BT.601).
    resize : str
        "crop" keeps the middle. "letterbox" fits all of the photo into `size`, keeping its proportions, and pads it on
        two sides. "stretch" changes its proportions to those of `size`.
    padding : int, or one for each channel, optional
        The colour beside a photo in a letterbox, from 0 to 255. The default is `mean`, rounded: numbers close to 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range; the message names it.

    Examples
    --------
    >>> photo = np.full((300, 451, 3), 255, np.uint8)
    >>> x = Preprocess()(photo)
    >>> x.shape, x.dtype, float(x.min()), float(x.max())
    ((1, 3, 224, 224), dtype('float32'), 1.0, 1.0)
    """

    size: int | tuple[int, int] = 224
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (127.0, 127.0, 127.0)
    std: tuple[float, ...] = (128.0, 128.0, 128.0)
    resize: str = "crop"
    padding: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        size = as_pair(self.size, "Preprocess: size")
        if max(size) > _MAX_SIZE:
            raise ValueError(f"Preprocess: size={size}, expected at most {_MAX_SIZE}")
        as_choice(self.interpolation, "Preprocess: interpolation", _INTERPOLATIONS)
        as_choice(self.resize, "Preprocess: resize", RESIZES)
        mean = _channels_of(self.mean, "mean", -_LARGEST_MEAN, _LARGEST_MEAN)
        std = _channels_of(self.std, "std", *_STD_RANGE)
        if len(mean) != len(std):
            raise ValueError(f"Preprocess: mean={self.mean!r}, std={self.std!r}, expected as many numbers in each")
        checked = {
            "size": size,
            "crop_fraction": _number(self.crop_fraction, "crop_fraction", _SMALLEST_CROP, 1.0),
            "mean": mean,
            "std": std,
            "padding": None if self.padding is None else self._checked_padding(len(mean)),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _checked_padding(self, channels: int) -> tuple[int, ...]:
        if self.resize != "letterbox":
            raise ValueError(f"Preprocess: padding={self.padding!r}, expected with resize='letterbox'")
        given: Any = self.padding
        listed = given if isinstance(given, (tuple, list)) else (given,) * channels
        values = tuple(as_int(value, "Preprocess: padding", 0) for value in listed)
        if len(values) != channels or max(values) > 255:
            expected = "a number" + f", or {channels} numbers" * (channels > 1)
            raise ValueError(f"Preprocess: padding={given!r}, expected {expected} from 0 to 255")
        return values

    @property
    def channels(self) -> int:
        """Channels of an input: 3, or 1 for grey."""
        return len(self.mean)

    def __call__(self, source: ImageSource) -> np.ndarray:
        """Return the input of the network for one photo.

        Parameters
        ----------
        source : path, bytes, binary file object, PIL.Image.Image or ndarray (H, W, 3) uint8
            Whatever `load_image` takes. The call raises what `load_image` raises.

        Returns
        -------
        ndarray (1, channels, height, width) float32
            C-contiguous.
        """
        return Pixels(self.pixels(source)[None], self).numbers()

    def pixels(self, source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Return one photo in the size of an input, not normalised.

        Parameters
        ----------
        source
            The photo, as in a call.
        max_pixels : int
            As for `load_image`.

        Returns
        -------
        ndarray (height, width, channels) uint8

        Examples
        --------
        >>> Preprocess(size=(8, 6)).pixels(np.full((30, 20), 7, np.uint8))[0, 0].tolist()
        [7, 7, 7]
        """
        fraction = self.crop_fraction if self.resize == "crop" else 1.0
        height, width = covered(self._size, fraction, math.ceil)
        return self._fitted(load_image(source, max_pixels=max_pixels, at_least=(_GAP * height, _GAP * width)))

    def reduced(self, source: ImageSource, share: float) -> np.ndarray:
        """Return a photo, not larger than needed where parts of it are resized to `size`.

        Parameters
        ----------
        source
            As for a call.
        share : float
            Of the photo's area that a part has, at least.

        Returns
        -------
        ndarray (H, W, channels) uint8
            Where it is shrunk, it just covers ``size / sqrt(share)``. In a letterbox, and stretched, it has the
            proportions of `size`.

        Examples
        --------
        >>> Preprocess(size=(8, 6)).reduced(np.zeros((400, 200, 3), np.uint8), 0.25).shape
        (24, 12, 3)
        """
        share = _number(share, "share", 1e-4, 1.0)
        least = covered(self._size, math.sqrt(share), math.ceil)
        pixels = self._in_channels(load_image(source, at_least=least))
        height, width = pixels.shape[:2]
        if self.resize != "crop":
            sides = zip(self._size, (height, width), least, strict=True)
            factor = min(1 / math.sqrt(share), max(photo / own for own, photo, _ in sides))  # never enlarged
            return self._whole(pixels, covered(self._size, 1 / factor, math.ceil))
        scale = max(least[0] / height, least[1] / width)
        if scale >= 1:
            return pixels
        shape = max(round(height * scale), least[0]), max(round(width * scale), least[1])
        return stretched(pixels, (0, 0, width, height), shape, "bilinear")

    @property
    def _size(self) -> tuple[int, int]:
        return cast(tuple[int, int], self.size)

    def levels(self) -> np.ndarray:
        """Return the normalised number of each value of a pixel and each channel: (channels, 256) float32.

        Examples
        --------
        >>> Preprocess().levels()[:, 255].tolist()
        [1.0, 1.0, 1.0]
        """
        values = np.arange(256, dtype=np.float32)
        return self.normalise(np.broadcast_to(values, (self.channels, 1, 256)))[:, 0]

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Return ``(pixel - mean) / std`` of each channel of pixels (..., channels, height, width), float32.

        Examples
        --------
        >>> Preprocess().normalise(np.full((3, 1, 1), 255, np.float32)).ravel().tolist()
        [1.0, 1.0, 1.0]
        """
        pixels = as_real_array(pixels, "normalise: pixels")
        if pixels.ndim < 3 or pixels.shape[-3] != self.channels:
            raise ValueError(f"normalise: pixels.shape={pixels.shape}, expected (..., {self.channels}, height, width)")
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        normalised: np.ndarray = (pixels - mean) / std
        return normalised

    def resized(self, pixels: np.ndarray, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
        """Return a part of a photo, resized but not normalised.

        Parameters
        ----------
        pixels : ndarray (H, W, 3), or (H, W, channels), uint8
        box : tuple of float, optional
            (top, left, height, width) in pixels of the photo. By default it is what a call keeps.

        Returns
        -------
        ndarray (channels, height, width), float32
            From 0 to 255.

        Examples
        --------
        >>> photo = np.zeros((20, 30, 3), np.uint8)
        >>> photo[:, 10:] = 200
        >>> float(Preprocess(size=2).resized(photo, (0, 20, 20, 10)).min())
        200.0
        """
        pixels = as_array(pixels, "resized: pixels")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, self.channels) or not pixels.size:
            raise ValueError(
                f"resized: pixels.dtype={pixels.dtype}, pixels.shape={pixels.shape}, expected uint8 (H, W, 3)"
            )
        if box is None:
            resized = self._fitted(pixels)
        else:
            if not isinstance(box, (tuple, list)) or len(box) != 4:
                raise TypeError(f"resized: box={box!r}, expected four numbers (top, left, height, width)")
            top, left, kept_height, kept_width = (as_float(number, "resized: box") for number in box)
            try:
                resized = self._stretched(pixels, (left, top, left + kept_width, top + kept_height))
            except ValueError as error:
                raise ValueError(f"resized: box={box!r}, expected a part of the photo: {error}") from None
        return np.ascontiguousarray(resized.transpose(2, 0, 1), np.float32)

    def _in_channels(self, pixels: np.ndarray) -> np.ndarray:
        return grey(pixels) if self.channels == 1 and pixels.shape[2] == 3 else pixels

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """Turn a photo, (H, W, 3) uint8, into (*size, channels) uint8."""
        if self.resize != "crop":
            return self._whole(pixels, self._size)
        part, box = middle(pixels, self._size, self.crop_fraction)
        return self._stretched(part, box)

    def _whole(self, pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        if self.resize == "stretch":
            return self._stretched(pixels, (0, 0, pixels.shape[1], pixels.shape[0]), shape)
        padding = self.padding or tuple(min(max(round(value), 0), 255) for value in self.mean)
        return whole(self._in_channels(pixels), shape, self.interpolation, cast("tuple[int, ...]", padding))

    def _stretched(self, pixels: np.ndarray, box: Box, shape: tuple[int, int] | None = None) -> np.ndarray:
        return stretched(self._in_channels(pixels), box, shape or self._size, self.interpolation)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings in types that JSON has.

        Examples
        --------
        >>> Preprocess(size=64).to_dict()["size"]
        [64, 64]
        """
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocess:
        """Return a `Preprocess` with the settings of `to_dict`.

        Parameters
        ----------
        settings : mapping
            The result of `to_dict`. It may come from a hostile file.

        Raises
        ------
        TypeError, ValueError
            If a setting is missing, unknown, of another type or out of range. Older files lack `resize` and `padding`.

        Examples
        --------
        >>> Preprocess.from_dict(Preprocess(size=64).to_dict()) == Preprocess(size=64)
        True
        """
        if not isinstance(settings, Mapping):
            raise TypeError(f"Preprocess: settings are of type {type(settings).__name__}, expected a mapping")
        known = [field.name for field in fields(cls)]
        if missing := [name for name in known if name not in settings and name not in _NEWER]:
            raise ValueError(f"Preprocess: settings lack {', '.join(missing)}")
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(f"Preprocess: settings have an unknown {str(unknown[0])[:80]!r}")
        return cls(**settings)


def image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return (channels, height, width) of an input; a network may take its channels last.

    Examples
    --------
    >>> image_shape((3, 32, 48)), image_shape((32, 48, 3))
    ((3, 32, 48), (3, 32, 48))
    """
    channels_last = len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3)
    return (shape[2], shape[0], shape[1]) if channels_last else tuple(shape)


@dataclass(frozen=True)
class Pixels:
    """A batch of photos that are not normalised yet. They take a quarter of the memory of normalised ones.

    Attributes
    ----------
    values : ndarray (N, height, width, channels), uint8
    preprocess : Preprocess
        The settings to normalise them with.
    """

    values: np.ndarray
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> Pixels:
        return Pixels(self.values[part], self.preprocess)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the normalised numbers: (N, channels, height, width)."""
        images, height, width, channels = self.values.shape
        return images, channels, height, width

    def numbers(self) -> np.ndarray:
        """Return the normalised batch: (N, channels, height, width) float32."""
        planes = np.ascontiguousarray(self.values.transpose(0, 3, 1, 2), np.float32)
        return self.preprocess.normalise(planes)


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"Preprocess: {name}={value!r}, expected a number")
    if not low <= value <= high:
        raise ValueError(f"Preprocess: {name}={value!r}, expected a number from {low:g} to {high:g}")
    return float(value)


def _channels_of(values: Any, name: str, low: float, high: float) -> tuple[float, ...]:
    if not isinstance(values, (tuple, list)) or len(values) not in (1, 3):
        raise ValueError(f"Preprocess: {name}={values!r}, expected three numbers (red, green, blue), or one (grey)")
    return tuple(_number(value, f"{name}[{i}]", low, high) for i, value in enumerate(values))


def images_to_batch(sources: Iterable[ImageSource], preprocess: Preprocess) -> np.ndarray:
    """Return the input of a network for several photos.

    Parameters
    ----------
    sources : iterable
        N photos: paths, or whatever `load_image` takes.
    preprocess : Preprocess
        The preprocessing of the network.

    Returns
    -------
    ndarray (N, channels, height, width) float32
        C-contiguous. Photo i has the same bits as ``preprocess(sources[i])``.

    Raises
    ------
    TypeError
        If `sources` is a single photo.
    ImageError, OSError
        As `load_image`.

    Examples
    --------
    >>> photos = [np.zeros((50, 40, 3), np.uint8), np.zeros((30, 60), np.uint8)]
    >>> images_to_batch(photos, Preprocess(size=(32, 24))).shape
    (2, 3, 32, 24)
    """
    if isinstance(sources, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(sources, "read"):
        kind = type(sources).__name__
        raise TypeError(f"images_to_batch: sources is a single {kind}, expected a list of photos")
    if not isinstance(sources, Iterable) or getattr(sources, "ndim", 1) == 0:
        raise TypeError(f"images_to_batch: sources: got {type(sources).__name__}, expected a list of photos")
    if not isinstance(preprocess, Preprocess):
        raise TypeError(f"images_to_batch: preprocess: got {type(preprocess).__name__}, expected a Preprocess")
    listed = list(sources)
    height, width = cast(tuple[int, int], preprocess.size)
    batch = np.empty((len(listed), preprocess.channels, height, width), np.float32)
    for i, source in enumerate(listed):
        batch[i] = preprocess(source)[0]
    return batch
