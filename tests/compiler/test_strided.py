"""Strided values: each description names the elements that NumPy's reshape, transpose and slices give."""

from __future__ import annotations

from math import prod

import numpy as np

from fastcnn.compiler.strided import of_image


def elements(place):
    """The numbers of the image's elements that a strided value consists of."""
    numbers = np.array(place.offset)
    for axis in place.axes:
        for size, stride in axis:
            numbers = numbers[..., None] + stride * np.arange(size)
    return numbers.reshape(place.shape)


def test_chains_name_the_elements_that_numpy_gives():
    rng = np.random.default_rng(0)
    kept = cut = 0
    for _ in range(400):
        sizes = tuple(int(size) for size in rng.choice([1, 2, 3, 4, 6], 4))
        place, array = of_image("x", sizes), np.arange(prod(sizes)).reshape(sizes)
        for _ in range(6):
            kind = rng.choice(["reshape", "transpose", "slice"])
            if kind == "transpose":
                perm = tuple(int(axis) for axis in rng.permutation(array.ndim))
                place, array = place.transpose(perm), array.transpose(perm)
            elif kind == "slice":
                axis = int(rng.integers(array.ndim))
                size, step = int(rng.integers(1, array.shape[axis] + 1)), int(rng.integers(1, 3))
                start = int(rng.integers(array.shape[axis] - size + 1))
                index = (slice(None),) * axis + (slice(start, start + size, step),)
                found = place.slice(axis, start, len(range(start, start + size, step)), step)
                if found is not None:
                    place, array = found, array[index]
            else:
                factors = [size for size in array.shape if size > 1] or [1]
                split = int(rng.integers(len(factors)))
                shape = (*factors[:split], prod(factors[split:])) if rng.random() < 0.5 else (1, *factors, 1)
                found = place.reshape(shape)
                cut += found is None
                if found is not None:
                    place, array = found, array.reshape(shape)
            kept += 1
            assert place.shape == array.shape
            assert (elements(place) == array).all()
    assert kept > 10 * cut


def test_an_axis_that_cuts_a_factor_unevenly_is_not_described():
    turned = of_image("x", (1, 4, 3, 3)).reshape((4, 9)).transpose((1, 0))
    assert turned.reshape((3, 3, 4)).axes == (((3, 3),), ((3, 1),), ((4, 9),))
    assert turned.reshape((2, 18)) is None
    assert turned.reshape((36,)).reshape((9, 4)) == turned
    assert turned.reshape((36,)).slice(0, 4, 8) is None


def test_an_image_is_recognised_as_it_is():
    image = of_image("x", (2, 3, 4, 1))
    assert image.is_image
    assert image.transpose((0, 2, 3, 1)).transpose((0, 3, 1, 2)).is_image
    assert not image.reshape((2, 3, 2, 2)).is_image
    assert not image.slice(0, 1, 1).is_image
