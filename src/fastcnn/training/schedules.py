"""Schedules: how the learning rate changes while a network trains.

A schedule gives the factor on the optimizer's learning rate at a step. loop.py counts the steps and sets the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fastcnn._arguments import as_float, as_int, as_share, as_size

__all__ = ["Cosine", "OneCycle", "Schedule", "StepDecay", "Warmup"]

# factor = schedule(step, steps, epoch_steps): number of the step from 0 on, steps in the training, steps in an epoch.
Schedule: TypeAlias = Callable[[int, int, int], float]


@dataclass(frozen=True)
class StepDecay:
    """Multiply the learning rate by `gamma` at regular epochs or at given ones: PyTorch's StepLR and MultiStepLR.

    Parameters
    ----------
    epochs : int or sequence of int
        The interval in epochs, or the numbers of epochs after which the rate changes.
    gamma : float

    Examples
    --------
    >>> schedule = StepDecay(30, gamma=0.5)
    >>> [schedule(epoch, 90, 1) for epoch in (0, 29, 30, 60)]
    [1.0, 1.0, 0.5, 0.25]
    >>> StepDecay([10, 80], gamma=0.5)(85 * 200, 90 * 200, 200)
    0.25
    """

    epochs: int | Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        for number in self.epochs if isinstance(self.epochs, Sequence) else [self.epochs]:
            as_int(number, "StepDecay: epochs", 1)
        _positive(self.gamma, "StepDecay: gamma")

    def __call__(self, step: int, steps: int, epoch_steps: int = 1) -> float:
        """Return the factor at a step."""
        _check_steps(step, steps, epoch_steps)
        epoch = step // epoch_steps
        if isinstance(self.epochs, Sequence):
            return float(self.gamma ** sum(number <= epoch for number in self.epochs))
        return float(self.gamma ** (epoch // self.epochs))


@dataclass(frozen=True)
class Cosine:
    """Fall along half a cosine, from 1 to `final` after the last step: PyTorch's CosineAnnealingLR.

    Parameters
    ----------
    final : float
        Last factor, from 0 to 1.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without restarts.

    Examples
    --------
    >>> [round(Cosine()(step, 100, 10), 3) for step in (0, 25, 50, 100)]
    [1.0, 0.854, 0.5, 0.0]
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        as_share(self.final, "Cosine: final")

    def __call__(self, step: int, steps: int, epoch_steps: int = 1) -> float:
        """Return the factor at a step."""
        _check_steps(step, steps, epoch_steps)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / max(steps, 1))) / 2


@dataclass(frozen=True)
class OneCycle:
    """Rise along a cosine to the optimizer's learning rate, then fall to almost nothing: PyTorch's OneCycleLR.

    Parameters
    ----------
    rise : float
        Share of the steps in which it rises.
    start, end : float
        First and last factor.

    Notes
    -----
    Smith and Topin, "Super-Convergence", 2018; defaults are PyTorch's (``div_factor=25``, ``final_div_factor=1e4``).
    The momentum stays as it is (``cycle_momentum=False``).

    Examples
    --------
    >>> [round(OneCycle()(step, 101, 1), 3) for step in (0, 15, 30, 65, 100)]
    [0.04, 0.538, 1.0, 0.492, 0.0]
    """

    rise: float = 0.3
    start: float = 1 / 25
    end: float = 1 / 25e4

    def __post_init__(self) -> None:
        for name in ("rise", "start", "end"):
            as_share(getattr(self, name), f"OneCycle: {name}")

    def __call__(self, step: int, steps: int, epoch_steps: int = 1) -> float:
        """Return the factor at a step."""
        _check_steps(step, steps, epoch_steps)
        top, last = self.rise * steps - 1, steps - 1
        if step <= top:
            return _along_cosine(self.start, 1.0, step / top if top > 0 else 1.0)
        return _along_cosine(1.0, self.end, min((step - top) / (last - top), 1.0) if last > top else 1.0)


@dataclass(frozen=True)
class Warmup:
    """Rise linearly for some epochs, then follow another schedule: PyTorch's LinearLR within a SequentialLR.

    Parameters
    ----------
    epochs : float
        Length of the rise; fractions of an epoch are allowed.
    then : schedule, optional
        Schedule of the remaining steps; by default the factor is 1.
    start : float
        First factor.

    Notes
    -----
    Goyal et al., "Accurate, Large Minibatch SGD", 2017.

    Examples
    --------
    >>> schedule = Warmup(4, Cosine(), start=0.2)
    >>> [round(schedule(step, 12, 1), 3) for step in (0, 1, 2, 4, 8, 12)]
    [0.2, 0.4, 0.6, 1.0, 0.5, 0.0]
    """

    epochs: float
    then: Schedule | None = None
    start: float = 0.1

    def __post_init__(self) -> None:
        _positive(self.epochs, "Warmup: epochs")
        as_share(self.start, "Warmup: start")
        if self.then is not None and not callable(self.then):
            raise TypeError(f"Warmup: then={self.then!r}, expected a schedule")

    def __call__(self, step: int, steps: int, epoch_steps: int = 1) -> float:
        """Return the factor at a step."""
        _check_steps(step, steps, epoch_steps)
        rising = max(round(self.epochs * epoch_steps), 1)
        if step < rising:
            return self.start + (1 - self.start) * step / rising
        return 1.0 if self.then is None else self.then(step - rising, max(steps - rising, 1), epoch_steps)


def _along_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


def _positive(value: float, name: str) -> None:
    if as_float(value, name) <= 0:
        raise ValueError(f"{name}={value!r}, expected a number > 0")


def _check_steps(step: int, steps: int, epoch_steps: int) -> None:
    as_size(step, "schedule: step")
    as_size(steps, "schedule: steps")
    as_int(epoch_steps, "schedule: epoch_steps", 1)
