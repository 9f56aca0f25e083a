"""The trainer: one compiled step at a time, for users who write their own loop.

The trainer keeps the state of training: parameters, running statistics and the optimizer's running means. It keeps them
in the form that the step reads, weights in blocks of output channels. Reading an array of the model brings the model up
to date. training/step.py builds the graph of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_flag, as_float, as_mapping, as_real_array, as_seed
from fastcnn.kernels import _cpu, storage
from fastcnn.kernels._program import default_float_modes
from fastcnn.kernels._update import SETTINGS
from fastcnn.kernels.parameters import from_blocks, to_blocks
from fastcnn.layers.newer import Holder, watch
from fastcnn.network import Network
from fastcnn.training.loader import Batch
from fastcnn.training.losses import Loss, loss_of
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.step import (
    Account,
    StepGraph,
    StepKind,
    learning_parts,
    scores_of,
    step_graph,
)
from fastcnn.training.step_plans import CompiledStep, StepPlans
from fastcnn.training.tasks import task_of_loss, without_ending
from fastcnn.training.updating import AVERAGED, GATHERED, Updating, row_of_numbers

__all__ = ["Trainer"]

T = TypeVar("T")


class Trainer(Holder):
    """Trains a model, step by step; each step is one call of compiled code.

    The model can be called, saved and read between steps. Reading it brings its arrays up to date, as `sync` does. The
    next step takes over arrays that are assigned to the model.

    Threads may read the model, predict with it and assign to it at any time. They wait for one step at most. Trainers
    of different models are independent. Trainers of one model, and threads that share a trainer, take turns.

    A step that raises leaves the state of the last finished step; `steps` counts the finished ones. A signal handler
    that runs within a step sees that state too. If the handler changes the model, the step begins again. A process that
    is forked while another thread is in a step continues from the arrays that were read last.

    Parameters
    ----------
    model : Model
        With one output (N, classes). Frozen layers (`Layer.freeze`) stay as they are. A last softmax or sigmoid that
        belongs to the loss is left out of the step. The model's `task` becomes the loss's.
    optimizer : Optimizer
    loss : str, Loss or function
        "cross_entropy", "mse", "binary_cross_entropy", an object, or a function of scores and labels (see
        `fastcnn.training.FunctionLoss`).
    clip_norm : float, optional
        Largest Euclidean norm of the gradients of all parameters; larger gradients are scaled down (Pascanu et al.,
        https://arxiv.org/abs/1211.5063).
    recompute : bool
        Compute activations and normalised values again in the backward pass instead of keeping them (Chen et al.,
        https://arxiv.org/abs/1604.06174). It takes less memory and gives the same bits.
    seed : int
        Seed of dropout. The random numbers of a step depend on the seed and the number of the step alone.
    ema : float, optional
        Keep an exponential moving average of the parameters, `averages`. After update t it is
        ``d * average + (1 - d) * parameter`` with d = min(ema, (1 + t) / (10 + t)). After the first it is the parameter
        itself. 0.999 is usual.

    Attributes
    ----------
    outputs : ndarray (N, classes), float32
        Scores of the last step's forward pass, before the update. The next step overwrites them.
    learning_rate : float
        Learning rate of the next step; can be set before each.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Examples
    --------
    >>> import fastcnn as fc
    >>> model = fc.Sequential(fc.Linear(2, 8, rng=0), fc.Tanh(), fc.Linear(8, 2, rng=1))
    >>> trainer = Trainer(model, fc.SGD(1.0, momentum=0.5))
    >>> x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), [0, 1, 1, 0]
    >>> losses = [trainer.step(x, y) for _ in range(100)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    >>> model.predict(x)
    array([0, 1, 1, 0])
    >>> trainer.load_state_dict(trainer.state_dict())
    """

    def __init__(
        self,
        model: Network,
        optimizer: Optimizer,
        loss: str | Loss | Callable[..., Any] = "cross_entropy",
        *,
        clip_norm: float | None = None,
        recompute: bool = False,
        seed: int = 0,
        ema: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, Network):
            raise TypeError(f"Trainer: model is of type {type(model).__name__}, expected a Model")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Trainer: optimizer={optimizer!r}, expected an Optimizer such as fastcnn.SGD(0.1)")
        if clip_norm is not None and not as_float(clip_norm, "Trainer: clip_norm") > 0:
            raise ValueError(f"Trainer: clip_norm={clip_norm}, expected a number above 0, or None")
        self.model, self.optimizer, self.loss = model, optimizer, loss_of(loss)
        model._begin_training()
        self.clip_norm, self.recompute, self.seed = clip_norm, recompute, as_seed(seed, "Trainer: seed")
        if ema is not None and not 0 <= as_float(ema, "Trainer: ema") < 1:
            raise ValueError(f"Trainer: ema={ema}, expected a number from 0 to below 1, or None")
        optimizer.check_groups([name for name, _ in model.named_parameters()])
        self.ema, self.learning_rate = ema, optimizer.learning_rate
        self._account = Account(0, 0, 0.0)
        self._begun = False, 0.0  # of the step that was begun last: whether it updates, and what its batch weighs
        self._plans = StepPlans()
        self._state: dict[str, np.ndarray] = {}  # in the form that the step reads
        self._forms: dict[str, tuple[tuple[int, ...], bool]] = {}  # shape, and whether it is stored as a parameter
        self._means: dict[str, np.ndarray] = {}  # loaded ones that no plan has read yet
        self._clock = np.zeros(4, np.uint32)
        self._changes = object()  # replaced after each change of the model
        self._seen: object = None  # `_changes` when the model's arrays were taken over
        self._isa, self._vl = "", 1
        self._is_newer = False  # whether the state is newer than the layers
        self._done: list[None] = []  # an item for each step, added by the call that does the step
        self._steps_before = 0  # steps of the run that this one resumes
        self._expected = 0  # length of `_done` after the step that runs now
        self.outputs = np.zeros((0, 0), np.float32)

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return self._steps_before + len(self._done)

    @property
    def updates(self) -> int:
        """Number of steps done that have changed the parameters."""
        return self._counted().updates

    def step(self, x: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, update: bool = True) -> float:
        """Train on one batch.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            Inputs, N >= 1.
        y : array_like
            Labels in a form that the loss takes: integers (N,), or a number for each score (N, classes).
        sample_weight : array_like (N,), optional
            Weight of each input in the loss.
        update : bool
            False keeps the gradients for the next step. That step follows the mean over all batches since the last
            update, as if they were one. Batch normalisation sees each batch by itself.

        Returns
        -------
        float
            Loss of the batch before the update.

        Raises
        ------
        ValueError
            If shapes or labels do not fit.
        RuntimeError
            If a signal handler trains the model that is within a step.
        """
        batch, labels = np.asarray(self.model._as_batch(x), np.float32), np.asarray(y)
        update = bool(as_flag(update, "Trainer.step: update"))
        if len(batch) == 0:
            raise ValueError(f"Trainer.step: x.shape={batch.shape}, expected at least one input")
        return self._stepped(batch, labels, sample_weight, update)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return what resuming needs beside the model's own state.

        Returns
        -------
        dict of str to ndarray
            The optimizer's running means, float32, under the parameter's name with "@first", "@second" or "@third". The
            moving average has "@average", gradients that no update has followed yet "@gradient". "@steps", int64, and
            "@learning_rate", float64. Where updates differ from steps, "@updates", int64, and "@gathered", float64.
        """

        def read() -> dict[str, np.ndarray]:
            means = self._plain_means()
            _, updates, gathered = self._counted()
            numbers = {"@steps": np.array(self.steps, np.int64), "@learning_rate": np.array(self.learning_rate)}
            if updates != self.steps:
                numbers |= {"@updates": np.array(updates, np.int64), "@gathered": np.array(gathered)}
            return {**self._means, **means, **numbers}

        return self._look(read)

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Continue from a state that `state_dict` gave; the model loads its own state.

        Parameters
        ----------
        state : mapping of str to array_like

        Raises
        ------
        ValueError
            If the state does not belong to this model.
        """
        state = as_mapping(state, "Trainer.load_state_dict: state")
        shapes = {name: array.shape for name, array in self.model.named_parameters()}
        checked = {name: as_real_array(array, f"Trainer.load_state_dict: {name}") for name, array in state.items()}
        means = {name: np.array(array, np.float32) for name, array in checked.items() if name[:1] != "@"}
        for name, array in means.items():
            expected = shapes.get(name.rpartition("@")[0])
            if expected != array.shape:
                raise ValueError(f"Trainer.load_state_dict: {name} has shape {array.shape}, expected {expected}")
        for name in ("@steps", "@learning_rate"):
            if name not in state or checked[name].size != 1:
                raise ValueError(f"Trainer.load_state_dict: {name} is missing, expected a number")
        steps, rate = int(checked["@steps"].item()), float(checked["@learning_rate"].item())
        updates = int(checked.get("@updates", np.int64(steps)))
        gathered = float(checked.get("@gathered", np.float64(0)))

        def change() -> None:
            self._begin_again(means)
            self._done, self._steps_before, self.learning_rate = [], steps, rate
            self._account = Account(0, updates, gathered)

        self._look(change)

    def averages(self) -> dict[str, np.ndarray]:
        """Return the moving average of each parameter that is trained, by its name; empty without `ema`.

        Returns
        -------
        dict of str to ndarray

        Examples
        --------
        >>> import fastcnn as fc
        >>> trainer = Trainer(fc.Sequential(fc.Linear(2, 2, rng=0)), fc.SGD(0.5), ema=0.9)
        >>> _ = [trainer.step([[1, 0]], [1]) for _ in range(3)]
        >>> list(trainer.averages())
        ['0.weight', '0.bias']
        """
        suffix = f"@{AVERAGED}"
        state = {} if self.ema is None else self.state_dict()  # a copy of all means
        return {name.removesuffix(suffix): array for name, array in state.items() if name.endswith(suffix)}

    def layer_changed(self) -> None:
        """Note that a layer has changed; the next step takes the change over. Layers call it."""
        self._changes = object()

    # -- inside ---------------------------------------------------------------------------------------

    def _look(self, look: Callable[[], T]) -> T:
        result = super()._look(look)
        if self._inside == get_ident() and self._updating and self._changes is not self._seen:
            # A signal handler has changed the model within a step. That step finishes on arrays that nobody reads,
            # and does not count.
            self._done, self._expected = self._done.copy(), 0
            self._begin_again(self._means | self._plain_means())
        return result

    def _learn(self, batch: Batch, update: bool) -> tuple[float, np.ndarray]:
        """Train on a batch of a loader; return the loss, and the labels that it was computed with."""
        return self.step(batch.x, batch.y, sample_weight=batch.weights, update=update), batch.y

    def _stepped(self, batch: Any, labels: np.ndarray, weights: ArrayLike | None, update: bool) -> float:
        while True:
            for rival in self._rivals():  # this step continues from another trainer's steps
                rival._refuse_within_step()
                rival.sync()
            with default_float_modes():  # the optimizer's numbers and the targets are computed here, too
                loss = self._work(lambda: self._step(batch, labels, weights, update))
            if loss is not None:
                return loss

    def _step(self, batch: np.ndarray, labels: np.ndarray, weights: ArrayLike | None, update: bool) -> float | None:
        """Do a step; return None where another trainer or a signal handler has changed the layers meanwhile."""
        if self._changes is not self._seen or _cpu.isa() != self._isa:
            self._take_over()
        if not (self._holds or self._claim()) or self._changes is not self._seen:
            return None
        is_outside = self.loss.needs_scores(weights)
        self._account = self._counted()
        gathered = self._account.gathered
        kind = StepKind("LinearLoss" if is_outside else self.loss.op, not update or gathered > 0, update)
        key = batch.shape, kind
        compiled = self._plans.recent(key) or self._compile(*key)
        count = self.loss.count(labels, weights) if kind.gathers else 1.0
        if kind.gathers and not gathered:
            for name in compiled.step.state:
                if name.endswith(f"@{GATHERED}"):
                    self._state[name][...] = 0
        self._set_numbers(compiled, count / (gathered + count) if gathered else 1.0)
        value: float | None = None
        if is_outside:
            value, gradient = self.loss.value_and_gradient(self._scores(batch, compiled), labels, weights)
            target = np.ascontiguousarray(gradient, np.float32)
            if self._changes is not self._seen:  # a signal handler has changed the model meanwhile
                return None
        else:
            target = self.loss.target(labels, compiled.scores.shape, weights)
        arrays = [batch, target, *compiled.numbers, self._clock.view(np.float32)]
        arrays += [self._state[name] for name in compiled.step.state]
        was_newer = self._is_newer
        self._tell()
        self._begun = update, count
        self._expected = len(self._done) + 1
        try:
            compiled.plan.run(arrays, [compiled.loss, compiled.scores], self._done)
        finally:
            if self._updating:
                self._is_newer &= was_newer  # a step that Ctrl-C ends has changed nothing
            else:
                self._tell()  # again, as a signal handler may have read the layers meanwhile
            self._expected = 0
        if self._seen is None:
            return None
        self.outputs = compiled.scores
        return float(compiled.loss[0]) if value is None else value

    def _scores(self, batch: np.ndarray, compiled: CompiledStep) -> np.ndarray:
        """The scores that the step will have, for losses that are computed outside of it."""
        if not compiled.scorer:
            graph, shapes, packed = scores_of(compiled.step), compiled.step.shapes, compiled.step.packed
            plan = self._plans.planned(graph, shapes, packed, self.model.tuning)
            compiled.scorer.append((plan, np.zeros(plan.output_shapes[0], np.float32)))
        ((plan, scores),) = compiled.scorer
        arrays = [batch, compiled.scores, *compiled.numbers, self._clock.view(np.float32)]
        plan.run([*arrays, *(self._state[name] for name in compiled.step.state)], [scores])
        return scores

    def _tell(self) -> None:
        """Tell the layers' watchers that newer values exist or will: whoever reads them waits for the step."""
        if not self._is_newer:
            for layer in self._held:
                layer._touch(self)
            self._is_newer = True  # set last, so that the next step repeats calls that Ctrl-C has cut short

    @property
    def _updating(self) -> bool:
        """Whether a step has begun and has not ended."""
        return len(self._done) < self._expected

    def _begin_again(self, means: dict[str, np.ndarray]) -> None:
        """Make the next step start from the model's arrays and from these means."""
        self._seen = None
        self._means, self._state, self._forms = means, {}, {}
        self._plans.clear()

    def _orphaned(self) -> None:
        super()._orphaned()
        if self._updating:  # the state holds half a step; the layers hold what was written back last
            self._expected, self._is_newer = 0, False
            self._release()
            self._begin_again({})

    def _counted(self) -> Account:
        """The account up to the last step that is done; another one may have been begun and given up."""
        account, (update, count) = self._account, self._begun
        if len(self._done) == account.steps:
            return account
        return Account(len(self._done), account.updates + update, 0.0 if update else account.gathered + count)

    def _set_numbers(self, compiled: CompiledStep, share: float) -> None:
        update = self._account.updates + 1
        for name, row in zip(compiled.step.numbers, compiled.numbers, strict=True):
            row[:] = row_of_numbers(name, self.optimizer, self.learning_rate, update, share, self.ema or 0.0)
        words = [self.seed, self.seed >> 32, self.steps, self.steps >> 32]
        self._clock[:] = [word & 0xFFFFFFFF for word in words]

    def _take_over(self) -> None:
        """Start from the model's arrays, as a layer or the instruction set has changed."""
        for _, layer in self.model.named_layers():
            watch(layer, self)
        changes = self._changes  # the next step takes over later changes
        self._write_back()
        self._release()
        self._begin_again(self._means | self._plain_means())
        self._held = [layer for _, layer in self.model.named_layers()]
        self._isa, self._vl = _cpu.isa(), _cpu.vector_length()
        self._seen = changes

    def _compile(self, shape: tuple[int, ...], kind: StepKind) -> CompiledStep:
        step = self._graph(shape, kind)
        plan = self._plans.planned(step.graph, step.shapes, step.packed, self.model.tuning)
        values = {**self._means, **step.constants}
        for name in step.state:
            if name not in self._state:
                self._forms[name] = step.shapes[name], name in step.packed
                self._state[name] = self._stored(name, values.get(name))
                self._means.pop(name, None)
        scores = np.zeros(plan.output_shapes[1], np.float32)
        task = task_of_loss(self.loss, scores.shape[1])
        if task is not None and task != self.model.task:
            self.model.task = task
        self._seen = self._changes  # forward methods may have set attributes; other threads wait for the step
        numbers = [np.zeros(len(SETTINGS), np.float32) for _ in step.numbers]
        compiled = CompiledStep(plan, step, numbers, np.zeros(1, np.float32), scores, [])
        self._plans.keep((shape, kind), compiled)
        return compiled

    def _graph(self, shape: tuple[int, ...], kind: StepKind | None = None) -> StepGraph:
        kind = kind or StepKind(self.loss.op, gathers=False, applies=True)
        updating = Updating(self.optimizer, self.clip_norm, kind.gathers, kind.applies, self.ema is not None)
        graph = without_ending(self.model._training_graph(shape[1:]), self.loss)
        return step_graph(graph, shape, *learning_parts(self.model), kind.loss, updating, self.recompute)

    def _stored(self, name: str, value: np.ndarray | None) -> np.ndarray:
        """Return a value, or zeros for None, in the form that the step reads."""
        shape, packed = self._forms[name]
        value = np.zeros(shape, np.float32) if value is None else np.ascontiguousarray(value, np.float32)
        if packed:
            return to_blocks(value, self._vl)
        array = storage.allocate(value.size).reshape(shape)
        array[...] = value
        return array

    def _plain(self, name: str) -> np.ndarray:
        """Return a value of the state in its own shape."""
        shape, packed = self._forms[name]
        return from_blocks(self._state[name], shape, self._vl) if packed else np.array(self._state[name])

    def _plain_means(self) -> dict[str, np.ndarray]:
        """Return the optimizer's running means from the state."""
        return {name: self._plain(name) for name in self._state if "@" in name}

    def _write_back(self) -> None:
        """Write the state to the model's layers: all of it, or nothing if an error occurs."""
        if self._is_newer:
            owned = [place for place in self.model._named_arrays(True, True) if place[0] in self._state]
            arrays = [self._plain(full) for full, _, _ in owned]
            for (_, layer, name), array in zip(owned, arrays, strict=True):
                layer._take_value(name, array, self)
            self._is_newer = False
