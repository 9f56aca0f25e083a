"""Models: networks that learn, are examined, tuned, and written to files.

Predicting is network.py's, learning training/'s, the formats of files model_format.py's and io/'s, reading them
loading.py's. What only some programs need is imported when it is asked for.
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

if TYPE_CHECKING:
    from fastcnn.layers.initial import RandomSource
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

    Calling a model with an array traces ``forward`` once for the array's shape, compiles the graph, keeps
    the plan (for the last 8 shapes) and runs it. Within another model it is a layer like any other.
    Models can be called from many threads, pickled and deep-copied; plans are not part of the copy. While one thread
    trains a model, a prediction in another has the parameters of one step: the last that is finished, or one before.

    Attributes
    ----------
    classes : list of str, or None
        The names of the outputs.
    input_shape : tuple of int, or None
        Shape of one input without the batch axis, usually (channels, height, width).
    preprocess : fastcnn.io.image.Preprocess, or None
        Turns a photo into an input; used by `classify`.

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
        keep_best: bool | str = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_steps: int | None = None,
        resume: bool = False,
        allow_changed: str | Sequence[str] = (),
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
            for each class; its names become `classes`. Of one that is divided into train, val and test, the first is
            learned from, and the second is the validation, if none is given. Photos go through `preprocess`, or are
            scaled to -1 … 1 where there is none. An iterable yields (x, y) batches, and is gone through once in each
            epoch.
        y : array_like (N,) or (N, outputs), optional
            Numbers of classes, or names of classes (which become `classes`, sorted, where the model has none); for
            several labels (N, outputs) of 0 and 1, or a list of names for each input; or probabilities, or whatever
            `loss` compares the outputs with. Not for folders and iterables.
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
            "cross_entropy", for several labels or a single output "binary_cross_entropy", "mse", or such as
            ``CrossEntropy(label_smoothing=0.1)``. A network that ends in the softmax or sigmoid that belongs to the
            loss is trained on what goes into it.
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
        keep_best : bool or str
            End with the parameters of the epoch with the lowest validation loss (or loss), not of the last one; or of
            the best "loss", "accuracy", "validation_loss" or "validation_accuracy".
        checkpoint : path-like, optional
            File to keep the state of the training in, written after each epoch and on Ctrl-C; a kill at any moment
            leaves a whole one.
        checkpoint_steps : int, optional
            Write it after every so many steps, too.
        resume : bool
            Go on from `checkpoint`, if there is such a file. The result has the same bits as that of a training that
            was never interrupted. The checkpoint knows what it is of: names of classes, data and their order (photos by
            name and size, arrays by a sample), network, optimizer, loss and schedule; other ones are refused.
        allow_changed : str or sequence of str
            What may differ all the same: "seed", "batch_size", "inputs" (their number), "classes", "data",
            "validation", "network", "optimizer", "loss", "schedule" (with its epochs), "augment", "clip_norm".
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
        >>> import numpy as np
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
                allow_changed=allow_changed,
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
        """Examine a classifier on data whose classes, or labels, are known.

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
        from fastcnn.training.label_report import report_of_labels
        from fastcnn.training.predictions import predictions
        from fastcnn.training.prepare import prepare
        from fastcnn.training.report import report

        data = prepare(self, x, y, adopt=False, parts=("test", "validation"))
        several = self.task == "multi_label"
        if not isinstance(data, Dataset) or (data.targets.ndim == 2 and data.targets.shape[1] > 1 and not several):
            raise ValueError("evaluate: expected inputs with the number or name of one class each")
        probabilities = []
        with Progress("evaluating", len(data), progress) as bar:
            for part in predictions(self, data, batch_size, workers):
                probabilities.append(part)
                bar.update(len(part))
        names = [data.source.name(index) for index in data.indices.tolist()]
        if several and data.targets.ndim == 2:
            return report_of_labels(np.concatenate(probabilities), data.labels > 0.5, self.classes, names)
        return report(np.concatenate(probabilities), data.labels.ravel().astype(np.int64), self.classes, names)

    def replace_head(self, num_classes: int, *, rng: RandomSource = None) -> Model:
        """Give the network a new last layer that has learned nothing yet, to let it learn other classes.

        The last layer is the linear one, or the convolution, that the output comes from, but for activations, pools
        and changes of shape. Names of classes and `task` are forgotten.

        Parameters
        ----------
        num_classes : int
            Outputs.
        rng : numpy.random.Generator or int, optional
            Source of its first weights.

        Returns
        -------
        Model
            Itself.

        Raises
        ------
        ValueError
            If there is no such layer, or `input_shape`, for which networks in Python are traced, is not set.

        Examples
        --------
        >>> from fastcnn import zoo
        >>> model = zoo.lenet(num_classes=10).replace_head(3)
        >>> model(np.zeros((1, *model.input_shape))).shape
        (1, 3)
        """
        from fastcnn.head import replace_head

        replace_head(self, num_classes, rng)
        return self

    # -- looking inside -------------------------------------------------------------------------------

    def summary(self, input_shape: Sequence[int] | None = None) -> Summary:
        """Return a table of layers: output shapes, parameters, arithmetic, and the kernels chosen.

        Parameters
        ----------
        input_shape : sequence of int, optional
            Shape of one input, without the batch axis; default `self.input_shape`.

        Returns
        -------
        fastcnn.summary.Summary
            ``print`` it; ``rows[i].reasons`` tells why other kernels were not taken.
        """
        from fastcnn.summary import summarise

        return summarise(self._stored_graph(input_shape))

    def profile(self, x: ArrayLike, repeats: int = 20) -> Profile:
        """Tell where the time of a prediction goes.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs, N >= 1.
        repeats : int
            Times are medians of so many runs.

        Returns
        -------
        fastcnn.profile.Profile
            ``print`` it for a table of steps: time, speed, how near the machine's limit; ``to_dict()`` is for JSON,
            ``plot(path)`` draws the roofline, and ``steps[i].reasons`` tells why other algorithms were not taken.

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

        Without it a fixed cost model chooses. What is found for a batch then holds for batches of every size.
        Algorithms differ in rounding (see `fastcnn.functional.conv2d`), so a tuned model's outputs may differ from an
        untuned one's in the last digits.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs as they will come, N >= 1.
        repeats : int
            Times are medians of so many turns, in each of which an algorithm runs beside the untuned network.

        Returns
        -------
        dict
            Seconds of each algorithm, for each kind of convolution. The fastest stand in `tuning`.

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
        graph = self.graph(batch.shape[1:])
        times = measure(graph, dict.fromkeys(graph.inputs, batch), repeats)
        best = {key: min(candidates, key=candidates.__getitem__) for key, candidates in times.items()}
        self.tuning = {**self._tuning, **best}
        return times

    # -- files ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, scaling, preprocessing, classes and task to one file.

        Parameters
        ----------
        path : path-like
            The suffix tells the format: .onnx (as `export_onnx`), else safetensors. Replaced at once when the file is
            complete. `fastcnn.load` reads it.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the suffix is another one than .safetensors and .onnx.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_format import save

        save(self, path)

    def load_weights(self, path: str | os.PathLike[str], *, max_bytes: int = 4 << 30) -> None:
        """Take weights from a file, by name: safetensors, or a PyTorch checkpoint (.pth, .pt) of torchvision or timm.

        Parameters
        ----------
        path : path-like
            It can come from anyone: it is checked, and nothing in it is run. Names that start with "module.", as
            PyTorch's DataParallel writes them, are taken without it.
        max_bytes : int
            The most that the arrays may take together.

        Raises
        ------
        ModelLoadError
            If the file is damaged or hostile, or its names and shapes are not the model's: all that differ are listed.
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
            Replaced at once when the file is complete. Opset 17 and IR version 8, unless the network has operations
            that are newer. The size of the batch is free. Scaling of inputs is a part of the graph: other engines take
            the same numbers. Classes, preprocessing of photos and task are kept as metadata.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the file would exceed the 2 GB that ONNX allows.
        ImportError
            Without the `onnx` package, which ``pip install "fastcnn[onnx]"`` brings.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_format import export_onnx

        export_onnx(self, path)
