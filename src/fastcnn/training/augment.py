"""Augmentation: random changes that leave the class of an image as it is, so that a network sees more images.

Works on one float32 image (C, H, W), or on a batch (mixup). Where the random numbers come from, and in which thread it
runs, is data.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastcnn._arguments import as_float, as_generator, as_int, as_real_array

__all__ = ["Augment"]

# Ratios of width and height that a crop may have: Szegedy et al., "Going Deeper with Convolutions", 2015.
_CROP_RATIOS = (3 / 4, 4 / 3)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601, as Pillow


@dataclass(frozen=True)
class Augment:
    """Random changes to each image, different in each epoch. The defaults suit photos.

    Subclasses may have a ``__call__`` of their own: it is given arrays, and photos as their values from 0 to 255.

    Parameters
    ----------
    flip : bool
        Mirror left and right, half of the time. Not for digits and letters.
    crop : float
        Keep a part of at least this share of the area, from 0 (excluded) to 1 (no cropping), and stretch it.
    rotation : float
        Largest angle of a turn in degrees, from 0 to 180.
    colour : float
        Change brightness, contrast and (of three channels) saturation by factors from ``1 - colour`` to
        ``1 + colour``, from 0 to 1.
    cutout : float
        Replace a square, of this share of the shorter side, by the mean of the image: from 0 (none) to 1. DeVries and
        Taylor, 2017.
    mixup : float
        Blend pairs of images and their labels, in parts drawn from Beta(mixup, mixup); 0 (none), or e.g. 0.2. Zhang et
        al., 2018.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range; the message names it.

    Notes
    -----
    Random numbers are counted by seed, epoch and image: training is the same for any number of worker threads.

    Examples
    --------
    >>> image = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4)
    >>> Augment(crop=0.5)(image, np.random.default_rng(0)).shape
    (1, 4, 4)
    >>> Augment(flip=False, crop=1, rotation=0, colour=0)(image, np.random.default_rng(0)) is image
    True
    """

    flip: bool = True
    crop: float = 0.5
    rotation: float = 10.0
    colour: float = 0.2
    cutout: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.flip, (bool, np.bool_)):
            raise TypeError(f"Augment: flip={self.flip!r}, expected True or False")
        limits = {"crop": (0, 1), "rotation": (0, 180), "colour": (0, 1), "cutout": (0, 1), "mixup": (0, math.inf)}
        for name, (low, high) in limits.items():
            value = as_float(getattr(self, name), f"Augment: {name}")
            if not low <= value <= high or (name == "crop" and value == 0):
                expected = "above 0 and at most 1" if name == "crop" else f"from {low:g} to {high:g}"
                raise ValueError(f"Augment: {name}={value!r}, expected a number {expected}")

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are blended: by `mixup`, or by a subclass's own `mix`."""
        return bool(self.mixup) or type(self).mix is not Augment.mix

    def __call__(self, image: np.ndarray, rng: np.random.Generator | int) -> np.ndarray:
        """Return a changed copy of one image, or the image itself where nothing changes.

        Parameters
        ----------
        image : ndarray (C, H, W), float32
        rng : numpy.random.Generator or int

        Returns
        -------
        ndarray (C, H, W), float32

        Raises
        ------
        TypeError
            If `rng` is neither.
        """
        image, rng = _checked_image(image), as_generator(rng, "Augment: rng")
        _, height, width = image.shape
        return self.change(image, rng, self.draw_crop(rng, height, width, width / height))

    def change(self, image: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]) -> np.ndarray:
        """Change an image as a call does, keeping a given part; a photo was cropped when it was decoded.

        Parameters
        ----------
        image : ndarray (C, H, W), float32
        rng : numpy.random.Generator or int
        box : tuple of float
            The part to keep, (top, left, height, width) in pixels.

        Returns
        -------
        ndarray (C, H, W), float32

        Examples
        --------
        >>> unchanged = Augment(flip=False, rotation=0, colour=0)
        >>> unchanged.change(np.zeros((3, 8, 8), np.float32), np.random.default_rng(0), (0, 0, 4, 4)).shape
        (3, 8, 8)
        """
        image, rng = _checked_image(image), as_generator(rng, "Augment: rng")
        if not isinstance(box, (tuple, list)) or len(box) != 4:
            raise TypeError(f"Augment: box={box!r}, expected four numbers (top, left, height, width)")
        flipped = self.flip and rng.random() < 0.5
        angle = math.radians(rng.uniform(-self.rotation, self.rotation)) if self.rotation else 0.0
        if angle or box != (0, 0, *image.shape[1:]):
            image = _warp(image, box, angle, flipped)
        elif flipped:
            image = np.ascontiguousarray(image[:, :, ::-1])
        if self.colour:
            image = self._recolour(image, rng)
        return self._cut_out(image, rng) if self.cutout else image

    def draw_crop(
        self, rng: np.random.Generator, height: int, width: int, aspect: float
    ) -> tuple[float, float, float, float]:
        """Draw the part of an image to keep.

        Parameters
        ----------
        rng : numpy.random.Generator
        height, width : int
            Of the image.
        aspect : float
            Width over height of what the part is stretched to: the part's own differs by up to 4/3.

        Returns
        -------
        tuple of float
            (top, left, height, width) in pixels.

        Examples
        --------
        >>> Augment(crop=1).draw_crop(np.random.default_rng(0), 6, 8, aspect=1.0)
        (0, 0, 6, 8)
        """
        rng = as_generator(rng, "Augment: rng")
        height, width = as_int(height, "Augment: height", 1), as_int(width, "Augment: width", 1)
        if as_float(aspect, "Augment: aspect") <= 0:
            raise ValueError(f"Augment: aspect={aspect!r}, expected a number > 0")
        if self.crop == 1:
            return 0, 0, height, width
        area = rng.uniform(self.crop, 1) * height * width
        ratio = aspect * math.exp(rng.uniform(math.log(_CROP_RATIOS[0]), math.log(_CROP_RATIOS[1])))
        kept_height, kept_width = min(math.sqrt(area / ratio), height), min(math.sqrt(area * ratio), width)
        return rng.random() * (height - kept_height), rng.random() * (width - kept_width), kept_height, kept_width

    def mix(self, images: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Blend each image of a batch, and its label, with the next one's.

        Parameters
        ----------
        images : ndarray (N, ...), float32
        targets : ndarray (N, classes), float32
            Probabilities.
        rng : numpy.random.Generator

        Returns
        -------
        tuple of ndarray
            As given, blended.

        Examples
        --------
        >>> images, labels = Augment(mixup=0.2).mix(np.ones((2, 3, 4, 4)), np.eye(2), np.random.default_rng(0))
        >>> images.shape, labels.sum(axis=1).round(6).tolist()
        ((2, 3, 4, 4), [1.0, 1.0])
        """
        if not self.mixup:
            raise ValueError("Augment: mixup=0, expected a number > 0 where images are blended")
        images, targets = as_real_array(images, "Augment: images"), as_real_array(targets, "Augment: targets")
        if not images.ndim or not targets.ndim:
            raise ValueError(f"Augment: images.shape={images.shape}, targets.shape={targets.shape}, expected (N, ...)")
        part = np.float32(as_generator(rng, "Augment: rng").beta(self.mixup, self.mixup))

        def blend(values: np.ndarray) -> np.ndarray:
            blended: np.ndarray = part * values + (1 - part) * np.roll(values, 1, axis=0)
            return blended

        return blend(images), blend(targets)

    def _recolour(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        brightness, contrast, saturation = rng.uniform(1 - self.colour, 1 + self.colour, 3).astype(np.float32)
        image = image * brightness
        if len(image) == 3:
            grey = np.tensordot(_GREY, image, 1)
            image = grey + saturation * (image - grey)
        mean = image.mean(dtype=np.float32)
        recoloured: np.ndarray = mean + contrast * (image - mean)
        return recoloured

    def _cut_out(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[1:]
        side = round(self.cutout * min(height, width))
        # The middle lies anywhere in the image, so that the square may hang over its border.
        top, left = (int(rng.integers(size)) - side // 2 for size in (height, width))
        image = image.copy()
        hole = image[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        hole[...] = image.mean(axis=(1, 2), keepdims=True)
        return image


def _checked_image(image: np.ndarray) -> np.ndarray:
    image = as_real_array(image, "Augment: image")
    if image.ndim != 3 or not image.size:
        raise ValueError(f"Augment: image.shape={image.shape}, expected (C, H, W)")
    return image.astype(np.result_type(image, np.float32), copy=False)


def _warp(image: np.ndarray, box: tuple[float, float, float, float], angle: float, flipped: bool) -> np.ndarray:
    """Stretch a part of an image to its full size, turned about its middle, and mirrored.

    Each output pixel is looked up where it comes from,

        (y, x) = middle of the box + R(angle) * scale * (output pixel - middle of the output),

    between four pixels (bilinear); what lies outside of the image is the nearest pixel of its border.
    """
    top, left, kept_height, kept_width = box
    _, height, width = image.shape
    down = ((np.arange(height) + 0.5) / height - 0.5) * kept_height
    right = ((np.arange(width) + 0.5) / width - 0.5) * kept_width
    if flipped:
        right = -right
    cos, sin = math.cos(angle), math.sin(angle)
    y = top + kept_height / 2 - 0.5 + cos * down[:, None] - sin * right
    x = left + kept_width / 2 - 0.5 + sin * down[:, None] + cos * right
    y, x = np.clip(y, 0, height - 1, dtype=np.float32), np.clip(x, 0, width - 1, dtype=np.float32)
    above, before = y.astype(np.int32), x.astype(np.int32)  # they are not negative, so this rounds down
    dy, dx = y - above, x - before
    first = above * width + before
    # The pixel below and the pixel after; at the border, where their share is 0, the same one.
    below, after = width * (above < height - 1), before < width - 1
    result = np.empty_like(image)
    for channel, plane in zip(result, image.reshape(len(image), -1), strict=True):
        upper, lower = plane.take(first), plane.take(first + below)
        upper += dx * (plane.take(first + after) - upper)
        lower += dx * (plane.take(first + below + after) - lower)
        np.add(upper, dy * (lower - upper), out=channel)
    return result
