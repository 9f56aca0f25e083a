"""Networks that learn: fitting and evaluating.

training/ learns, and is imported where it is used; predictor.py predicts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.predictor import Predictor

if TYPE_CHECKING:
    from fastcnn.training.augment import Augment
    from fastcnn.training.folds import Folds
    from fastcnn.training.history import History
    from fastcnn.training.losses import Loss
    from fastcnn.training.optimizers import Optimizer
    from fastcnn.training.options import Distributed
    from fastcnn.training.rates import RateSearch
    from fastcnn.training.report import Report
    from fastcnn.training.schedules import Schedule

__all__ = ["Learner"]


class Learner(Predictor):
    """A network with what learning needs; `Model` adds looking inside, and files.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> class Line(Learner):
    ...     def __init__(self):
    ...         self.linear = Linear(1, 2, rng=0)
    ...     def forward(self, x):
    ...         return self.linear(x)
    >>> Line().fit([[1], [-1]], [0, 1], epochs=2).epochs
    2
    """

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 10,
        batch_size: int = 32,
        *,
        validation: Any = None,
        optimizer: Optimizer | None = None,
        loss: str | Loss | Callable[..., Any] = "cross_entropy",
        class_weight: Any = None,
        sample_weight: Any = None,
        schedule: Schedule | None = None,
        augment: Augment | Callable[..., Any] | None = None,
        callbacks: Sequence[Any] = (),
        patience: int | None = None,
        keep_best: bool | str = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_steps: int | None = None,
        checkpoint_seconds: float = 0.0,
        resume: bool = False,
        allow_changed: str | Sequence[str] = (),
        clip_norm: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        recompute: bool = False,
        seed: int = 0,
        workers: int | None = None,
        progress: bool | None = None,
        on_error: str = "skip",
        shards: int | None = None,
        sync_batch_norm: bool = False,
        distributed: Distributed | None = None,
    ) -> History:
        """Learn from data.

        Parameters
        ----------
        x : array_like (N, ...), folder, sequence of photos, iterable, or data set
            Inputs, for images (N, C, H, W), converted to float32 batch by batch.

            A folder has a sub-folder of photos for each class; the names of sub-folders become `classes`. A folder that
            is divided into train, val and test is learned from its train part. Its val part is the validation, if none
            is given. Photos are paths or images of Pillow's. They go through `preprocess`, or are scaled to -1 … 1
            without one.

            An iterable yields batches (x, y) or (x, y, weights), as PyTorch's DataLoader does, and is iterated once in
            each epoch. A data set yields an image and one label each time, as those of PyTorch and Hugging Face do.

            A data frame, or a .csv or .tsv file, has a column of paths and one of labels. Several labels of a photo are
            in one cell, with | or ; between them, or each label has a column of 0 and 1. Paths in a file are relative
            to its folder. An .npz file holds x and y.
        y : array_like (N,) or (N, outputs), optional
            True labels: numbers or names of classes. A model without `classes` takes over the sorted names. Several
            labels of an input are a row of 0 and 1, or a list of names. Or probabilities, or other values that `loss`
            compares the outputs with. Not for data that tell their labels themselves.
        epochs : int
            Passes over the data, each shuffled anew.
        batch_size : int
            Inputs in a step; the last step of an epoch has the remainder.
        validation : float, (x, y), or any `x` that tells its labels, optional
            Data to evaluate the model on after each epoch. A number between 0 and 1 is a share of the data, the same
            for each class. Weights do not count there.
        optimizer : Optimizer, optional
            For instance ``SGD(0.1, momentum=0.9)``; by default ``Adam()``.
        loss : str, Loss or function
            "cross_entropy", "mse", "binary_cross_entropy" (for several labels or a single output), or a loss:
            ``CrossEntropy(label_smoothing=0.1)``. A last softmax or sigmoid that belongs to the loss is left out of
            training. A function of scores and labels returns the loss, or one for each input. It is written in NumPy's
            functions, which yield its gradient (`fastcnn.training.FunctionLoss`).
        class_weight : dict, sequence or "balanced", optional
            Weight in the loss of the inputs of each class, by number or name, or one number for each class. "balanced"
            gives each class the same weight.
        sample_weight : array_like (N,), optional
            Weight of each input in the loss.
        schedule : schedule, optional
            Factors on the optimizer's learning rate: ``OneCycle()`` or ``Warmup(5, Cosine())``, or any function of
            (step, steps, steps in an epoch).
        augment : Augment or function, optional
            Random changes to images; not for iterables. A function takes one image (H, W, C), of photos uint8. It
            may take a `numpy.random.Generator`, too. Functions of albumentations and torchvision fit.
        callbacks : sequence of functions or `fastcnn.training.Callback`
            Each is called after each epoch with a `fastcnn.training.run.Run`: model, trainer, history, epoch, and
            ``stop()``. Methods of a Callback are called at the start, after batches and epochs, and at the end.
        patience : int, optional
            Epochs without a better validation loss after which training stops; without validation the loss counts.
        keep_best : bool or str
            End with the parameters of the epoch with the lowest validation loss; without validation the loss counts. Or
            of the epoch with the best "loss", "accuracy", "validation_loss" or "validation_accuracy".
        checkpoint : path-like, optional
            File for the state of the training, written after each epoch and on Ctrl-C. A kill at any moment leaves a
            complete checkpoint.
        checkpoint_steps : int, optional
            Steps after which the checkpoint is written within an epoch.
        checkpoint_seconds : float
            Time that must have passed since the last checkpoint, else an epoch ends without one. The last epoch has
            one always. Epochs that take less time than writing are best bundled so.
        resume : bool
            Continue from `checkpoint` if the file exists. The result has the same bits as a training without a break.
            A checkpoint knows its classes, data, network, optimizer, loss and schedule, and refuses others. It knows
            photos by name, size and order, and arrays by a sample.
        allow_changed : str or sequence of str
            What may differ from the checkpoint: "seed", "batch_size", "inputs" (their number), "classes", "data",
            "validation", "network", "preprocess", "optimizer", "loss", "schedule" (with its epochs), "augment",
            "clip_norm", "accumulate", "ema", "shards", "sync_batch_norm".
        clip_norm : float, optional
            Largest Euclidean norm of the gradients of a step; larger gradients are scaled down.
        accumulate : int
            Batches whose mean gradient an update follows, as if they were one batch.
        ema : float, optional
            Keep an exponential moving average of the parameters, see `Trainer`. The average is validated, and is what
            the model has in the end. 0.99 suits some hundred steps, 0.999 some thousand.
        recompute : bool
            Compute activations twice instead of keeping them: less memory, more time.
        seed : int
            Seed of shuffling, augmentation, dropout and the split. The same seed gives the same bits on any number of
            threads and workers.
        workers : int, optional
            Threads that read and augment images ahead; by default 2 for photos and augmented images.
        progress : bool, optional
            Show progress and the time that is left on stderr. A terminal gets a bar for each epoch, notebooks and logs
            a line. False shows nothing.
        on_error : {"skip", "stop"}
            Files of photos are read once before training. Those that cannot be read are left out, and a
            `FastcnnWarning` names them. More than a tenth of all are refused, with "stop" also a single one.
        shards : int, optional
            Parts into which each batch is cut. Gradients are summed in the order of the shards, so that the result has
            the same bits wherever shards are computed. Batch normalisation uses the statistics of each shard. By
            default batches are not cut; with `distributed` there are 8 shards.
        sync_batch_norm : bool
            Let batch normalisation use the statistics of all shards, as if the batch were not cut.
        distributed : fastcnn.distributed.Ray, optional
            Let several processes, on one machine or many, compute the shards.

        Returns
        -------
        History
            A dict of lists: "loss", "accuracy", "validation_loss", …; ``plot()`` draws it. Ctrl-C ends the training
            after the current step with a `FastcnnWarning`. The model then keeps what it has learned, and the history
            has ``interrupted`` set.

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong, which the message names, or if the checkpoint is of other data or settings.
        FloatingPointError
            If the loss is not finite.
        ImageError
            If photos cannot be read, see `on_error`; the message names them.

        Notes
        -----
        Frozen layers (`Layer.freeze`) stay as they are. If all layers up to some point are frozen and nothing is
        augmented, their outputs are computed once and reused in every epoch.

        A second call continues the first, unless the weights were changed in between. It shuffles and augments in other
        orders, and keeps the running means of the same optimizer.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Linear, ReLU, Sequential
        >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
        >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)  # quadrants, which no line separates
        >>> model = Sequential(Linear(2, 16), ReLU(), Linear(16, 2))
        >>> history = model.fit(x, y, epochs=60)
        >>> history["accuracy"][-1] > 0.9
        True
        """
        settings = {name: value for name, value in locals().items() if name not in ("self", "x", "y")}
        from fastcnn.training.begin import fit
        from fastcnn.training.options import Options

        return fit(self, x, y, Options(**settings))

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        workers: int | None = None,
        progress: bool | None = None,
        on_error: str = "skip",
    ) -> Report:
        """Evaluate a classifier on data with true labels.

        Parameters
        ----------
        x, y, batch_size, workers, progress, on_error
            As for `fit`.

        Returns
        -------
        fastcnn.training.report.Report
            ``print`` shows accuracy, precision and recall of each class, the confusion matrix, calibration and the
            worst mistakes. Of more than five classes it shows top-5 accuracy, too. ``to_dict()`` is for JSON, and
            ``plot(path)`` draws it.

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
        from fastcnn.training.examine import examine

        return examine(self, x, y, batch_size, workers, progress, on_error)

    def cross_validate(self, x: Any, y: Any = None, folds: int = 5, *, seed: int = 0, **settings: Any) -> Folds:
        """Train copies of the model on all but one part of the data, and examine each on the part that is left.

        Parameters
        ----------
        x, y
            As for `fit`; no iterables of batches.
        folds : int
            Parts, in each of which the classes have the same shares.
        seed : int
            Of the division, and as for `fit`.
        **settings
            Of `fit`.

        Returns
        -------
        fastcnn.training.folds.Folds
            A `Report` for each part; ``print`` it for accuracies, their mean and spread.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Linear, Sequential
        >>> x = np.arange(-10, 10)[:, None]
        >>> found = Sequential(Linear(1, 2, rng=0)).cross_validate(x, x[:, 0] > 0, folds=2, epochs=3)
        >>> [report.count for report in found.reports]
        [10, 10]
        """
        from fastcnn.training.folds import cross_validate

        return cross_validate(self, x, y, folds, seed, settings)

    def find_learning_rate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        *,
        optimizer: Optimizer | None = None,
        loss: str | Loss | Callable[..., Any] = "cross_entropy",
        augment: Augment | Callable[..., Any] | None = None,
        low: float = 1e-6,
        high: float = 10.0,
        steps: int = 100,
        seed: int = 0,
    ) -> RateSearch:
        """Find the learning rate at which a copy of the model learns fastest, while the rate grows from step to step.

        Parameters
        ----------
        x, y, batch_size, optimizer, loss, augment
            As for `fit`.
        low, high : float
            The first rate, and the last, at which the loss should explode.
        steps : int
            Steps between them; fewer are done where the loss explodes.
        seed : int
            As for `fit`.

        Returns
        -------
        fastcnn.training.rates.RateSearch
            ``suggestion`` is the rate to try; ``plot()`` draws the losses. Smith, "Cyclical Learning Rates for Training
            Neural Networks", 2017.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Linear, Sequential
        >>> x = np.arange(-10, 10)[:, None]
        >>> found = Sequential(Linear(1, 2, rng=0)).find_learning_rate(x, x[:, 0] > 0)
        >>> 1e-5 < found.suggestion < 1
        True
        """
        from fastcnn.training.rates import find_rate

        return find_rate(self, x, y, batch_size, (optimizer, loss, augment), (low, high, steps), seed)
