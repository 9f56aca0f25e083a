"""Photos on their way to a prediction: resized pixels, which the first step of a plan turns into numbers.

Making them is image.py's, looking them up kernels/_reorder's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastcnn.io.image import Preprocess

__all__ = ["Pixels"]


@dataclass(frozen=True)
class Pixels:
    """A batch of photos, not normalised yet: a quarter of the memory of the numbers that they stand for.

    Attributes
    ----------
    values : ndarray (N, height, width, 3), uint8
    preprocess : Preprocess
        What has resized them, and says what each value stands for.
    """

    values: np.ndarray
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> Pixels:
        return Pixels(self.values[part], self.preprocess)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the numbers: (N, 3, height, width)."""
        images, height, width, channels = self.values.shape
        return images, channels, height, width

    def numbers(self) -> np.ndarray:
        """Return what a network takes that knows nothing of pixels: (N, 3, height, width) float32."""
        planes = np.ascontiguousarray(self.values.transpose(0, 3, 1, 2), np.float32)
        return self.preprocess.normalise(planes)
