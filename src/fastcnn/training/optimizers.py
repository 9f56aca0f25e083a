"""Optimizers: how parameters follow gradients. Settings and results are those of PyTorch's optimizers.

Each optimizer gives the numbers of its formula. kernels/_update does the arithmetic inside the compiled step. In the
formulas g is the gradient of a parameter p, clipped if the trainer clips. t is the number of the step, from 1 on. All
but AdamW begin with g += weight_decay * p.

composed.py has optimizers whose formulas have several parts.

All take `groups`: other learning rates and weight decays for some parameters. It maps patterns of parameters' names,
as ``"features.*"`` or ``("*.bias", "*.gamma")``, to a dict of "learning_rate" and "weight_decay". The first that fits
counts. A schedule changes all rates in proportion. `parameter_groups` in groups.py makes groups of a network's layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastcnn._arguments import as_choice, as_flag, as_float, as_int, as_mapping, as_share

Groups: TypeAlias = Mapping[str | tuple[str, ...], Mapping[str, float]]

__all__ = ["SGD", "Adam", "AdamW", "Groups", "Optimizer", "RMSprop", "checked_betas", "checked_number"]


class Optimizer:
    """Base of all optimizers: settings without state, so that several trainers can share one.

    Parameters
    ----------
    learning_rate : float
        Learning rate that a trainer begins with.
    weight_decay : float
        Share of a parameter that is added to its gradient.
    groups : dict of str, or tuple of str, to dict, optional
        Other learning rates and weight decays of parameters whose names fit a pattern; the first that fits counts.

    Attributes
    ----------
    kind : str
        Name of the formula in kernels/_update.

    Examples
    --------
    >>> import fastcnn as fc
    >>> isinstance(fc.Adam(), Optimizer)
    True
    """

    kind: ClassVar[str]
    nesterov: bool = False

    def __init__(self, learning_rate: float, weight_decay: float, groups: Groups | None = None) -> None:
        self.learning_rate = _number(self, "learning_rate", learning_rate)
        self.weight_decay = _number(self, "weight_decay", weight_decay)
        self.groups = _checked_groups(self, groups)

    def group_of(self, name: str) -> int:
        """Find the group that a parameter belongs to.

        Parameters
        ----------
        name : str
            Of the parameter.

        Returns
        -------
        int
            Number of the first group whose pattern fits, from 1 on; 0 where there is none.

        Examples
        --------
        >>> SGD(groups={"*.bias": {"weight_decay": 0}}).group_of("conv.bias")
        1
        """
        fits = (any(fnmatchcase(name, pattern) for pattern in _patterns(key)) for key in self.groups)
        return next((i for i, is_of in enumerate(fits, 1) if is_of), 0)

    def check_groups(self, names: Sequence[str]) -> None:
        """Refuse groups that have no parameters.

        Parameters
        ----------
        names : sequence of str
            Of all parameters.

        Raises
        ------
        ValueError
            For a group that has none of them.

        Examples
        --------
        >>> SGD(groups={"*.bias": {"weight_decay": 0}}).check_groups(["conv.weight", "conv.bias"])
        """
        taken = {self.group_of(name) for name in names}
        for i, pattern in enumerate(self.groups, 1):
            if i not in taken:
                known = ", ".join(names[:5])
                raise ValueError(
                    f"{type(self).__name__}: groups: no parameter belongs to {pattern!r}, expected patterns of names "
                    f"such as {known}"
                )

    def rate_and_decay(self, group: int) -> tuple[float, float]:
        """Tell the settings of a group.

        Parameters
        ----------
        group : int
            Its number, from 1 on; 0 for the other parameters.

        Returns
        -------
        (float, float)
            Learning rate and weight decay.

        Examples
        --------
        >>> SGD(0.1, groups={"*.bias": {"weight_decay": 0}}).rate_and_decay(1)
        (0.1, 0.0)
        """
        settings = list(self.groups.values())[group - 1] if group else {}
        return settings.get("learning_rate", self.learning_rate), settings.get("weight_decay", self.weight_decay)

    def states(self) -> tuple[str, ...]:
        """Tell which running means it keeps for each parameter.

        Returns
        -------
        tuple of str
            Some of "first", "second" and "third".

        Examples
        --------
        >>> SGD().states(), SGD(momentum=0.9).states(), Adam().states()
        ((), ('first',), ('first', 'second'))
        """
        raise TypeError(f"{type(self).__name__} has no states: use SGD, Adam, AdamW, RMSprop, LAMB or Lion")

    def numbers(self, step: int) -> Mapping[str, float]:
        """Tell the numbers of the formula. The trainer adds `rate`, and the weight decay of groups.

        Parameters
        ----------
        step : int
            Number of the step, from 1 on.

        Returns
        -------
        mapping of str to float

        Examples
        --------
        >>> SGD(momentum=0.9).numbers(1)
        {'decay': 0.0, 'momentum': 0.9}
        """
        return {"decay": self.weight_decay}

    def parts(self, step: int, group: int) -> Mapping[str, Mapping[str, float]]:
        """Tell the numbers of the parts of a formula that has several, by their names in updating.py.

        Parameters
        ----------
        step : int
            Number of the step, from 1 on.
        group : int
            Number of the group of parameters, from 1 on; 0 for the other parameters.

        Returns
        -------
        mapping of str to mapping

        Examples
        --------
        >>> SGD().parts(1, 0)
        {}
        """
        return {}

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name != "groups" or value}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al., ICML 2013).

    m = momentum * m + g;  p -= learning_rate * m;  with Nesterov's p -= learning_rate * (g + momentum * m).

    Parameters
    ----------
    learning_rate : float
    momentum : float
        From 0 up to 1.
    nesterov : bool
        Needs a momentum.
    weight_decay : float
    groups : dict of str, or tuple of str, to dict, optional
        Other learning rates and weight decays of parameters whose names fit a pattern; the first that fits counts.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, weight_decay=0.0, momentum=0.9, nesterov=False)
    >>> SGD(0.1, groups={"*.bias": {"weight_decay": 0}, "body.*": {"learning_rate": 0.01}}).group_of("body.0.weight")
    2
    """

    kind = "SGD"

    def __init__(
        self,
        learning_rate: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, groups)
        self.momentum = _number(self, "momentum", momentum)
        self.nesterov = bool(as_flag(nesterov, "SGD: nesterov"))
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True with momentum=0, expected a momentum above 0")

    def states(self) -> tuple[str, ...]:
        return ("first",) if self.momentum else ()

    def numbers(self, step: int) -> Mapping[str, float]:
        return {"decay": self.weight_decay, "momentum": self.momentum}


class Adam(Optimizer):
    """Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980).

    m += (1 - b1) (g - m);  v = b2 v + (1 - b2) g^2;
    p -= learning_rate / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)

    Parameters
    ----------
    learning_rate : float
    betas : pair of float
        b1 and b2, from 0 up to 1.
    eps : float
    weight_decay : float
    groups : dict of str to dict, optional
        As for `SGD`.

    Examples
    --------
    >>> Adam().betas
    (0.9, 0.999)
    """

    kind = "Adam"

    def __init__(
        self,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, groups)
        self.betas, self.eps = checked_betas(self, betas), _number(self, "eps", eps)

    def states(self) -> tuple[str, ...]:
        return ("first", "second")

    def numbers(self, step: int) -> Mapping[str, float]:
        first, second = self.betas
        step = as_int(step, f"{type(self).__name__}.numbers: step", 1)
        return {
            "decay": self.weight_decay,
            "epsilon": self.eps,
            "beta2": second,
            "one_minus_beta1": 1 - first,
            "one_minus_beta2": 1 - second,
            "correction1": 1 - first**step,
            "correction2": (1 - second**step) ** 0.5,
        }


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101).

    p -= learning_rate * weight_decay * p, then as `Adam`.

    Parameters
    ----------
    learning_rate, betas, eps, weight_decay, groups
        As for `Adam`.

    Examples
    --------
    >>> AdamW().weight_decay
    0.01
    """

    kind = "AdamW"

    def __init__(
        self,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay, groups=groups)


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, Lecture 6.5 of Neural Networks for Machine Learning, 2012).

    v = alpha v + (1 - alpha) g^2;  u = g / (sqrt(v) + eps);  m = momentum * m + u;  p -= learning_rate * m

    Parameters
    ----------
    learning_rate, alpha, eps, weight_decay, momentum : float
        The numbers of the formula.
    centered : bool
        Divide by the gradients' standard deviation (Graves, https://arxiv.org/abs/1308.0850, section 4.2):
        c = alpha c + (1 - alpha) g;  u = g / (sqrt(v - c^2) + eps).
    groups : dict of str to dict, optional
        As for `SGD`.

    Examples
    --------
    >>> RMSprop().alpha
    0.99
    """

    kind = "RMSprop"

    def __init__(
        self,
        learning_rate: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, groups)
        self.alpha = as_share(alpha, "RMSprop: alpha")
        self.eps, self.momentum = _number(self, "eps", eps), _number(self, "momentum", momentum)
        self.centered = bool(as_flag(centered, "RMSprop: centered"))

    def states(self) -> tuple[str, ...]:
        return *(("first",) if self.momentum else ()), "second", *(("third",) if self.centered else ())

    def numbers(self, step: int) -> Mapping[str, float]:
        return {
            "decay": self.weight_decay,
            "momentum": self.momentum,
            "epsilon": self.eps,
            "beta2": self.alpha,
            "one_minus_beta2": 1 - self.alpha,
        }


def checked_betas(owner: Optimizer, betas: Any) -> tuple[float, float]:
    """The pair of numbers from 0 to below 1 that `betas` must be."""
    name = f"{type(owner).__name__}: betas"
    if not isinstance(betas, (tuple, list, np.ndarray)) or getattr(betas, "ndim", 1) != 1 or len(betas) != 2:
        raise TypeError(f"{name}={betas!r}, expected two numbers from 0 to below 1")
    first, second = (as_float(beta, name) for beta in betas)
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(f"{name}={betas}, expected two numbers from 0 to below 1")
    return first, second


def _number(owner: Optimizer, name: str, value: float) -> float:
    return checked_number(value, f"{type(owner).__name__}: {name}")


def checked_number(value: Any, name: str) -> float:
    """The number from 0 to below infinity that a setting must be."""
    number = as_float(value, name)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name}={value}, expected a number from 0 to below infinity")
    return number


def _patterns(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _checked_groups(owner: Optimizer, groups: Any) -> dict[str | tuple[str, ...], dict[str, float]]:
    name = f"{type(owner).__name__}: groups"
    checked: dict[str | tuple[str, ...], dict[str, float]] = {}
    if groups is None:
        return checked
    if not isinstance(groups, Mapping):
        raise TypeError(f"{name}: got {type(groups).__name__}, expected a mapping of patterns to settings")
    for pattern, settings in groups.items():
        if not _patterns(pattern) or not all(isinstance(part, str) for part in _patterns(pattern)):
            raise TypeError(f"{name}: {pattern!r}, expected a pattern of names, or a tuple of patterns")
        for key in as_mapping(settings, f"{name}[{pattern!r}]"):
            as_choice(key, f"{name}[{pattern!r}]", ("learning_rate", "weight_decay"))
        checked[pattern] = {
            key: _number(owner, f"groups[{pattern!r}][{key!r}]", value) for key, value in settings.items()
        }
    return checked
