"""Optimizers whose formulas have several parts: a gradient first becomes a direction, which a parameter then follows.

Each part is a step of one of the formulas of kernels/_update, with numbers of its own. updating.py puts them in order.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastcnn.training.optimizers import Adam, Groups, Optimizer, checked_betas

__all__ = ["LAMB", "Lion"]

_HUGE = 1e30  # times any gradient that counts, this is beyond -1 or 1
_TINY = 1e-30


class LAMB(Adam):
    """LAMB (You et al., https://arxiv.org/abs/1904.00962): Adam whose steps are in proportion to the parameters' norms.

    m and v are those of `Adam`.
    u = m / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + eps) + weight_decay * p;  p -= learning_rate * r * u

    r is the Euclidean norm of p by that of u, each of one array. Where p is zero, r is 1. It is also 1 where the
    weight decay is 0. A group without decay, the usual choice for biases and normalisations, has steps of Adam.

    Parameters
    ----------
    learning_rate, betas, eps, weight_decay, groups
        As for `Adam`.

    Examples
    --------
    >>> LAMB(groups={"*.bias": {"weight_decay": 0}}).weight_decay
    0.01
    """

    kind = "LAMB"

    def __init__(
        self,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay, groups=groups)

    def parts(self, step: int, group: int) -> Mapping[str, Mapping[str, float]]:
        whole = {"beta2": 1.0, "correction1": 1.0, "correction2": 1.0}
        return {
            "direction": {**self.numbers(step), "decay": 0.0, "rate": -1.0},
            "decay": {"rate": -self.rate_and_decay(group)[1]},
            "quotient": {**whole, "rate": -1.0, "epsilon": _TINY},  # the first mean by the root of the second
            "less": {"rate": _HUGE},
            "plus": {"rate": -1.0},
        }


class Lion(Optimizer):
    """Lion (Chen et al., https://arxiv.org/abs/2302.06675): steps of one size, in the direction of a momentum's sign.

    p -= learning_rate * (sign(b1 m + (1 - b1) g) + weight_decay * p);  m = b2 m + (1 - b2) g

    The paper advises a learning rate 3 to 10 times smaller than AdamW's, and a weight decay as much larger.

    Parameters
    ----------
    learning_rate : float
    betas : pair of float
        b1 and b2, from 0 up to 1.
    weight_decay : float
    groups : dict of str to dict, optional
        As for `SGD`.

    Examples
    --------
    >>> Lion(weight_decay=0.1)
    Lion(learning_rate=0.0001, weight_decay=0.1, betas=(0.9, 0.99))
    """

    kind = "Lion"

    def __init__(
        self,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, groups)
        self.betas = checked_betas(self, betas)

    def states(self) -> tuple[str, ...]:
        return ("first",)

    def parts(self, step: int, group: int) -> Mapping[str, Mapping[str, float]]:
        first, second = self.betas
        return {
            "gradient": {"rate": -_HUGE * (1 - first)},
            "momentum": {"rate": -_HUGE * first},
            "mean": {"rate": second - 1, "decay": -1.0},
        }
