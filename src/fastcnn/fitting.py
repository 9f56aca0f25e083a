"""The methods by which a model learns and is examined: `fit` and `evaluate`, which every `Model` has.

What they do is in training/; this is what they promise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from fastcnn.model import Model
    from fastcnn.training.augment import Augment
    from fastcnn.training.history import History
    from fastcnn.training.losses import Loss
    from fastcnn.training.optimizers import Optimizer
    from fastcnn.training.report import Report
    from fastcnn.training.schedules import Schedule

__all__ = ["Fitting"]


class Fitting:
    """What `Model` inherits: learning from data, and being examined on them."""

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 10,
        batch_size: int = 32,
        *,
        validation: Any = None,
        optimizer: Optimizer | None = None,
        loss: str | Loss = "cross_entropy",
        schedule: Schedule | None = None,
        augment: Augment | None = None,
        callbacks: Sequence[Callable[[Any], object]] = (),
        patience: int | None = None,
        keep_best: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_steps: int | None = None,
        resume: bool = False,
        clip_norm: float | None = None,
        recompute: bool = False,
        seed: int = 0,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> History:
        """Learn from data.

        Parameters
        ----------
        x : array_like (N, ...), folder, sequence of paths, or iterable
            Inputs, for images (N, C, H, W), converted to float32 batch by batch. A folder has one sub-folder of photos
            for each class; its names become `classes`. Photos go through `preprocess`, or are scaled to -1 … 1 where
            there is none. An iterable yields (x, y) batches, and is gone through once in each epoch.
        y : array_like (N,) or (N, outputs), optional
            Numbers of classes, or names of classes (which become `classes`, sorted, where the model has none); or
            probabilities, or whatever `loss` compares the outputs with. Not for folders and iterables.
        epochs : int
            How often the data are gone through, shuffled anew each time.
        batch_size : int
            Inputs in one step; the last step of an epoch has what is left.
        validation : float, (x, y) or folder, optional
            Data to examine the model on after each epoch; a number between 0 and 1 is a share of the data, of each
            class the same.
        optimizer : Optimizer, optional
            Such as ``SGD(0.1, momentum=0.9)``; ``Adam()`` by default.
        loss : str or Loss
            "cross_entropy", "mse", "binary_cross_entropy", or such as ``CrossEntropy(label_smoothing=0.1)``.
        schedule : schedule, optional
            Such as ``OneCycle()`` or ``Warmup(5, Cosine())``: factors on the optimizer's learning rate. Any function of
            (step, steps, steps in an epoch) will do.
        augment : Augment, optional
            Random changes to images, (C, H, W); not for iterables.
        callbacks : sequence of functions
            Each is called after each epoch with a `fastcnn.training.loop.Run`: model, trainer, history, epoch, and
            ``stop()``.
        patience : int, optional
            Stop when the validation loss (or the loss, without validation) has not improved for so many epochs.
        keep_best : bool
            End with the parameters of the epoch with the lowest validation loss (or loss), not of the last one.
        checkpoint : path-like, optional
            File to keep the state of the training in, written after each epoch and on Ctrl-C; a kill at any moment
            leaves a whole one.
        checkpoint_steps : int, optional
            Write it after every so many steps, too.
        resume : bool
            Go on from `checkpoint`, if there is such a file. The result has the same bits as that of a training that
            was never interrupted.
        clip_norm : float, optional
            Scale the gradients of a step down to this Euclidean norm, where it is larger.
        recompute : bool
            Compute activations twice instead of keeping them: less memory, more time.
        seed : int
            Of the order of inputs, augmentation, dropout and the split. The same seed gives the same bits on any
            number of threads and workers.
        workers : int, optional
            Threads that read and augment images ahead; by default 2 where there is something to do.
        progress : bool, optional
            Show a progress bar for each epoch on stderr (a line, where tqdm is not installed); by default on a terminal
            only.

        Returns
        -------
        History
            A dict of lists: "loss", "accuracy", "validation_loss", …; ``plot()`` draws it. Ctrl-C ends the training
            after the current step: a `FastcnnWarning` tells so, the model keeps what it has learned, and the history
            so far is returned, with ``interrupted`` set.

        Raises
        ------
        ValueError, TypeError
            Naming the argument that is wrong; if `resume` finds a checkpoint of other data or settings.
        FloatingPointError
            If the loss is not finite any more.
        ImageError
            If a photo cannot be read; it names the file.

        Notes
        -----
        Layers that are frozen (`Layer.freeze`) stay as they are. Where all layers up to some point are, and nothing is
        augmented, what they compute is computed once and reused in every epoch.

        Examples
        --------
        >>> from fastcnn import Linear, ReLU, Sequential
        >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
        >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)  # in which quadrants a point lies: no line separates them
        >>> model = Sequential(Linear(2, 16), ReLU(), Linear(16, 2))
        >>> history = model.fit(x, y, epochs=60)
        >>> history["accuracy"][-1] > 0.9
        True
        """
        from fastcnn.training.loop import fit
        from fastcnn.training.options import Options

        return fit(cast("Model", self), x, y, Options(
            epochs, batch_size, validation, optimizer, loss, schedule, augment, callbacks, patience, keep_best,
            checkpoint, checkpoint_steps, resume, clip_norm, recompute, seed, workers, progress,
        ))

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 32, workers: int | None = None, progress: bool | None = None
    ) -> Report:
        """Examine a classifier on data whose classes are known.

        Parameters
        ----------
        x, y, batch_size, workers, progress
            As for `fit`; no iterables.

        Returns
        -------
        fastcnn.training.report.Report
            ``print`` it: accuracy, precision and recall of each class, confusions, the worst mistakes;
            ``to_dict()`` is for JSON, ``plot(path)`` draws the confusions.

        Raises
        ------
        ValueError, TypeError
            Naming the argument that is wrong.

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(1, 2))
        >>> model[0].weight, model[0].bias = [[1], [-1]], [0, 0]
        >>> model.evaluate([[3], [-3], [2]], [0, 1, 1]).accuracy.__round__(3)
        0.667
        """
        from fastcnn._progress import Progress
        from fastcnn.training.data import Dataset
        from fastcnn.training.predictions import predictions
        from fastcnn.training.prepare import prepare
        from fastcnn.training.report import report

        model = cast("Model", self)
        data = prepare(model, x, y, adopt=False)
        if not isinstance(data, Dataset) or data.targets.ndim != 1:
            raise ValueError("evaluate: expected inputs with the number or name of one class each")
        probabilities = []
        with Progress("evaluating", len(data), progress) as bar:
            for part in predictions(model, data, batch_size, workers):
                probabilities.append(part)
                bar.update(len(part))
        names = [data.source.name(index) for index in data.indices.tolist()]
        return report(np.concatenate(probabilities), data.labels, model.classes, names)
