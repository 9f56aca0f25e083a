"""Ray as an argument of `Model.fit`: where the shards of a training are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn._arguments import as_float, as_int
from fastcnn.distributed._ray import connect, ray_module
from fastcnn.network import Network
from fastcnn.training.loader import Batches
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.trainer import Trainer

__all__ = ["Ray"]


class Ray:
    """Workers of a Ray cluster, which compute the shards of a training.

    The cluster is that of `address`, or the one that the program is connected to. Without either, Ray is started on
    this machine, and ended after the training.

    Parameters
    ----------
    workers : int
        Processes; on a cluster usually one for each machine. Fewer take part while some are not ready.
    threads : int
        Threads of each, for which it reserves as many CPUs.
    address : str, optional
        Of the cluster, such as "auto" or "10.0.0.1:6379".
    timeout : float
        Seconds without an answer after which a worker counts as hung: longer than any step takes.

    Raises
    ------
    ValueError, TypeError
        Naming the argument that is wrong.

    Examples
    --------
    >>> Ray(workers=4, threads=8)
    Ray(workers=4, threads=8, address=None, timeout=300.0)
    """

    def __init__(self, workers: int, *, threads: int = 1, address: str | None = None, timeout: float = 300.0) -> None:
        self.workers, self.threads = as_int(workers, "Ray: workers", 1), as_int(threads, "Ray: threads", 1)
        if address is not None and not isinstance(address, str):
            raise TypeError(f"Ray: address={address!r}, expected text such as 'auto', or None")
        self.address, self.timeout = address, as_float(timeout, "Ray: timeout")
        if not self.timeout > 0:
            raise ValueError(f"Ray: timeout={timeout}, expected seconds above 0")
        self._trainers: list[Any] = []
        self._ray: Any = None
        self._has_started = False

    def __repr__(self) -> str:
        names = ("workers", "threads", "address", "timeout")
        return f"Ray({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def _trainer(
        self,
        model: Network,
        optimizer: Optimizer,
        loss: str | Loss | Callable[..., Any],
        *,
        shards: int,
        **settings: Any,
    ) -> Trainer:
        """Start workers, and return a trainer whose shards they compute. `Model.fit` calls it.

        Parameters
        ----------
        model, optimizer, loss, shards, **settings
            As for `Trainer`.

        Returns
        -------
        Trainer
        """
        if self.workers > shards:
            raise ValueError(
                f"fit: distributed: workers={self.workers}, expected at most {shards}, the number of shards: name more "
                "by shards="
            )
        ray = self._ray = ray_module("fit: distributed")
        from fastcnn.distributed.team import Team
        from fastcnn.distributed.trainer import RemoteTrainer

        self._has_started |= connect(ray, self.address, self.workers * self.threads)
        self._end_trainers()
        team = Team(ray, self.workers, self.threads, self.timeout)
        made = RemoteTrainer(team, model, optimizer, loss, shards=shards, **settings)
        self._trainers.append(made)
        team.start()
        return made

    def _reads(self, trainer: Any, batches: Batches) -> Batches:
        """Let the workers of a trainer read batches. `Model.fit` calls it.

        Parameters
        ----------
        trainer : Trainer
            Which this object has made.
        batches : Batches

        Returns
        -------
        Batches
            Without inputs.
        """
        from fastcnn.distributed.trainer import PromisedBatches

        trainer.batches = batches
        return PromisedBatches(batches)

    def _close(self) -> None:
        """End the workers, and Ray where it was started for them. `Model.fit` calls it."""
        self._end_trainers()
        if self._has_started:
            self._ray.shutdown()
            self._has_started = False

    def _end_trainers(self) -> None:
        while self._trainers:
            self._trainers.pop().close()
