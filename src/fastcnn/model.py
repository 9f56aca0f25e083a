"""Models: networks that learn, are evaluated, tuned, and written to files.

network.py predicts, training/ learns, model_format.py and io/ write files, and loading.py reads them. Modules that few
programs need are imported where they are used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_int
from fastcnn.errors import ModelLoadError
from fastcnn.network import Network, Prediction
from fastcnn.ops.budget import MAX_BYTES

if TYPE_CHECKING:
    from fastcnn.profile import Profile
    from fastcnn.summary import Summary
    from fastcnn.training.augment import Augment
    from fastcnn.training.history import History
    from fastcnn.training.losses import Loss
    from fastcnn.training.optimizers import Optimizer
    from fastcnn.training.report import Report
    from fastcnn.training.schedules import Schedule

__all__ = ["Model", "Prediction"]


class Model(Network):
    """A network: layers set as attributes, and a ``forward`` of one input and one output.

    A call with an array traces ``forward`` once for the array's shape, compiles the graph and runs the plan. Plans of
    the last 8 shapes are kept. Within another model it is a layer like any other. Models can be called from many
    threads, pickled and deep-copied; copies have no plans. While one thread trains a model, a prediction in another
    thread uses the parameters of one finished step.

    Attributes
    ----------
    classes : list of str, or None
        Names of the outputs.
    input_shape : tuple of int, or None
        Shape of one input without the batch axis, usually (channels, height, width).
    preprocess : fastcnn.io.image.Preprocess, or None
        Turns a photo into an input for `classify`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn.layers import Conv2d, GlobalAvgPool2d, Linear
    >>> from fastcnn import functional as fc
    >>> class Tiny(Model):
    ...     def __init__(self):
    ...         self.conv = Conv2d(3, 8, 3, padding="same")
    ...         self.pool = GlobalAvgPool2d()
    ...         self.head = Linear(8, 2)
    ...         self.classes = ["cat", "dog"]
    ...     def forward(self, x):
    ...         return self.head(fc.flatten(self.pool(fc.relu(self.conv(x)))))
    >>> images = np.ones((5, 3, 16, 16), np.float32)
    >>> model = Tiny()
    >>> model(images).shape
    (5, 2)
    >>> set(model.predict(images)) <= {"cat", "dog"}
    True
    """

    # -- learning -------------------------------------------------------------------------------------

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
            Inputs, for images (N, C, H, W), converted to float32 batch by batch. A folder has a sub-folder of photos
            for each class; folder names become `classes`. Photos go through `preprocess`, or are scaled to
            -1 … 1 without one. An iterable yields (x, y) batches, and is iterated once in each epoch.
        y : array_like (N,) or (N, outputs), optional
            True labels: numbers or names of classes. A model without `classes` takes over the sorted names. Or
            probabilities, or other values that `loss` compares the outputs with. Not for folders and iterables.
        epochs : int
            Passes over the data, each shuffled anew.
        batch_size : int
            Inputs in a step; the last step of an epoch has the remainder.
        validation : float, (x, y) or folder, optional
            Data to evaluate the model on after each epoch. A number between 0 and 1 is a share of the data, the same
            for each class.
        optimizer : Optimizer, optional
            For instance ``SGD(0.1, momentum=0.9)``; by default ``Adam()``.
        loss : str or Loss
            "cross_entropy", "mse", "binary_cross_entropy", or a loss: ``CrossEntropy(label_smoothing=0.1)``.
        schedule : schedule, optional
            Factors on the optimizer's learning rate: ``OneCycle()`` or ``Warmup(5, Cosine())``, or any function of
            (step, steps, steps in an epoch).
        augment : Augment, optional
            Random changes to images (C, H, W); not for iterables.
        callbacks : sequence of functions
            Each is called after each epoch with a `fastcnn.training.loop.Run`: model, trainer, history, epoch, and
            ``stop()``.
        patience : int, optional
            Epochs without a better validation loss after which training stops; without validation the loss counts.
        keep_best : bool
            End with the parameters of the epoch with the lowest validation loss; without validation the loss counts.
        checkpoint : path-like, optional
            File for the state of the training, written after each epoch and on Ctrl-C. A kill at any moment leaves a
            complete checkpoint.
        checkpoint_steps : int, optional
            Steps after which the checkpoint is written within an epoch.
        resume : bool
            Continue from `checkpoint` if the file exists. The result has the same bits as a training without a break.
        clip_norm : float, optional
            Largest Euclidean norm of the gradients of a step; larger gradients are scaled down.
        recompute : bool
            Compute activations twice instead of keeping them: less memory, more time.
        seed : int
            Seed of shuffling, augmentation, dropout and the split. The same seed gives the same bits on any number of
            threads and workers.
        workers : int, optional
            Threads that read and augment images ahead; by default 2 for photos and augmented images.
        progress : bool, optional
            Show a progress bar for each epoch on stderr, or a line where tqdm is not installed; by default only on a
            terminal.

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
            If a photo cannot be read; the message names the file.

        Notes
        -----
        Frozen layers (`Layer.freeze`) stay as they are. If all layers up to some point are frozen and nothing is
        augmented, their outputs are computed once and reused in every epoch.

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
        from fastcnn.training.loop import fit
        from fastcnn.training.options import Options

        return fit(
            self,
            x,
            y,
            Options(
                epochs=epochs,
                batch_size=batch_size,
                validation=validation,
                optimizer=optimizer,
                loss=loss,
                schedule=schedule,
                augment=augment,
                callbacks=callbacks,
                patience=patience,
                keep_best=keep_best,
                checkpoint=checkpoint,
                checkpoint_steps=checkpoint_steps,
                resume=resume,
                clip_norm=clip_norm,
                recompute=recompute,
                seed=seed,
                workers=workers,
                progress=progress,
            ),
        )

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 32, workers: int | None = None, progress: bool | None = None
    ) -> Report:
        """Evaluate a classifier on data with true labels.

        Parameters
        ----------
        x, y, batch_size, workers, progress
            As for `fit`, without iterables.

        Returns
        -------
        fastcnn.training.report.Report
            ``print`` it for accuracy, precision and recall of each class, the confusion matrix and the worst mistakes.
            ``to_dict()`` is for JSON, ``plot(path)`` draws the confusion matrix.

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

        data = prepare(self, x, y, adopt=False)
        if not isinstance(data, Dataset) or data.targets.ndim != 1:
            raise ValueError("evaluate: expected inputs with the number or name of one class each")
        probabilities = []
        with Progress("evaluating", len(data), progress) as bar:
            for part in predictions(self, data, batch_size, workers):
                probabilities.append(part)
                bar.update(len(part))
        names = [data.source.name(index) for index in data.indices.tolist()]
        return report(np.concatenate(probabilities), data.labels, self.classes, names)

    # -- looking inside -------------------------------------------------------------------------------

    def summary(self, input_shape: Sequence[int] | None = None) -> Summary:
        """Return a table of layers: output shapes, parameters, arithmetic and chosen kernels.

        Parameters
        ----------
        input_shape : sequence of int, optional
            Shape of one input, without the batch axis; default `self.input_shape`.

        Returns
        -------
        fastcnn.summary.Summary
            ``print`` it for the table; ``rows[i].reasons`` says why other kernels were not taken.
        """
        from fastcnn.summary import summarise

        return summarise(self._stored_graph(input_shape))

    def profile(self, x: ArrayLike, repeats: int = 20) -> Profile:
        """Measure the steps of a prediction.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs, N >= 1.
        repeats : int
            Runs whose median time counts.

        Returns
        -------
        fastcnn.profile.Profile
            ``print`` it for a table of steps: time, speed, and share of the machine's limit. ``to_dict()`` is for JSON,
            ``plot(path)`` draws the roofline. ``steps[i].reasons`` says why other algorithms were not taken.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(64, 32))
        >>> [step.kernel for step in model.profile(np.ones((4, 64))).steps]
        ['gemm']
        """
        from fastcnn.profile import profile_plan

        batch = self._as_batch(x)
        repeats = as_int(repeats, "profile: repeats", 0)
        if len(batch) == 0 or repeats == 0:
            raise ValueError(f"profile: len(x)={len(batch)}, repeats={repeats}, expected at least one of each")
        return profile_plan(self._compiled(len(batch), batch).plan, [batch], repeats)

    def tune(self, x: ArrayLike, repeats: int = 10) -> dict[str, dict[str, float]]:
        """Time the algorithms of every convolution on this machine, and use the fastest from now on.

        Without tuning a fixed cost model chooses. The choices for a batch hold for batches of every size. Algorithms
        differ in rounding (see `fastcnn.functional.conv2d`), so that outputs may change in the last digits.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A typical batch of inputs, N >= 1.
        repeats : int
            Turns whose median time counts; in each turn an algorithm runs next to the untuned network.

        Returns
        -------
        dict
            Seconds of each algorithm, for each kind of convolution. `tuning` holds the fastest.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Conv2d, Sequential
        >>> model = Sequential(Conv2d(8, 8, 3))
        >>> times = model.tune(np.zeros((1, 8, 20, 20)), repeats=3)
        >>> list(times) == list(model.tuning)
        True
        """
        from fastcnn.compiler.tune import measure

        batch = self._as_batch(x)
        repeats = as_int(repeats, "tune: repeats", 1)
        if len(batch) == 0:
            raise ValueError("tune: len(x)=0, expected at least one input")
        graph = self._kernel_graph(batch.shape[1:])
        times = measure(graph, dict.fromkeys(graph.inputs, batch), repeats)
        best = {key: min(candidates, key=candidates.__getitem__) for key, candidates in times.items()}
        self.tuning = {**self._tuning, **best}
        return times

    # -- files ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, classes and preprocessing to one safetensors file.

        Parameters
        ----------
        path : path-like
            File to write, for `fastcnn.load`. An old file is replaced in one moment when the new one is complete.

        Raises
        ------
        ValueError
            If `input_shape` is not set.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_format import save

        save(self, path)

    def load_weights(self, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> None:
        """Take weights from a file, by name: safetensors, or a PyTorch checkpoint (.pth, .pt) of torchvision or timm.

        Parameters
        ----------
        path : path-like
            The file. It can come from anyone: it is checked, and nothing in it is run. The prefix "module." of
            PyTorch's DataParallel is removed from names.
        max_bytes : int
            Limit of the sum of all arrays.

        Raises
        ------
        ModelLoadError
            If the file is damaged or hostile, or if names or shapes differ from the model's. The message lists all
            differences.
        OSError
            If the file cannot be read.
        """
        from fastcnn.io.weights import read_weights

        arrays = read_weights(path, max_bytes=max_bytes)
        if arrays and all(name.startswith("module.") for name in arrays):
            arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
        try:
            self.load_state_dict(arrays)
        except (ValueError, TypeError) as error:
            raise ModelLoadError(f"{path}: {error}") from error

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ONNX file, for ONNX Runtime and others; `fastcnn.load` reads it too.

        Parameters
        ----------
        path : path-like
            File to write. An old file is replaced in one moment when the new one is complete. The file has opset 17 and
            IR version 8, or newer ones if an operation needs them. The size of the batch is free. Classes and
            preprocessing are kept as metadata.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the file would exceed the 2 GB that ONNX allows.
        ImportError
            Without the `onnx` package, which ``pip install "fastcnn[onnx]"`` brings.
        MemoryError
            If there is none for the network's nodes; the weights are not copied.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_format import export_onnx

        export_onnx(self, path)
