"""The state of a finished training, from which the next `fit` of the same model continues.

It is the number of epochs and steps, and the optimizer's running means. It is dropped once a weight is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from fastcnn.network import Network
from fastcnn.training.trainer import Trainer

__all__ = ["Learned", "learned_of", "remember"]


@dataclass(frozen=True)
class Learned:
    """How a training has ended.

    Attributes
    ----------
    epochs : int
        Epochs done so far.
    trainer : dict of str to ndarray
        The trainer's `state_dict`.
    means_of : str
        The optimizer that the running means belong to, as text.
    weights : dict of str to ndarray
        The arrays of the model. They are compared by identity.
    """

    epochs: int
    trainer: dict[str, np.ndarray]
    means_of: str
    weights: dict[str, np.ndarray]

    def resume(self, trainer: Trainer) -> int:
        """Let a new trainer go on, as far as it trains the same with the same optimizer; return the epochs before."""
        names = {name.rpartition("@")[0] for name in self.trainer if name[0] != "@"}
        state = self.trainer
        if repr(trainer.optimizer) != self.means_of or names != _trained(trainer):
            state = {"@steps": state["@steps"], "@updates": np.int64(0), "@gathered": np.float64(0)}
        trainer.load_state_dict({**state, "@learning_rate": trainer.optimizer.learning_rate})
        return self.epochs


_learned: WeakKeyDictionary[Network, Learned] = WeakKeyDictionary()


def learned_of(model: Network) -> Learned | None:
    """Return how the last training of a model has ended, and forget it; None where its weights are other ones now."""
    learned = _learned.pop(model, None)
    if learned is None:
        return None
    now = model.state_dict()
    if now.keys() != learned.weights.keys() or any(now[name] is not array for name, array in learned.weights.items()):
        return None
    return learned


def remember(model: Network, trainer: Trainer, epochs: int, means: bool) -> None:
    """Keep how a training has ended; `means` tells whether with the optimizer's running means."""
    state = trainer.state_dict()
    state = {name: array for name, array in state.items() if name[0] == "@" or (means and not _is_average(name))}
    _learned[model] = Learned(epochs, state, repr(trainer.optimizer), model.state_dict())


def _is_average(name: str) -> bool:
    return name.endswith("@average")


def _trained(trainer: Trainer) -> set[str]:
    return {
        f"{path}.{name}" if path else name
        for path, layer in trainer.model.named_layers()
        if not layer.is_frozen and trainer.optimizer.states()
        for name in layer._parameters
    }
