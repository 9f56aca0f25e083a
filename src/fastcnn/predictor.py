"""Networks that predict everything that holds data: folders, photos, batches, data sets.

network.py predicts arrays. training/ reads data, and is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._arguments import check_out
from fastcnn.kernels._cpu import threads_of_call
from fastcnn.network import Network
from fastcnn.task import most_likely

if TYPE_CHECKING:
    from fastcnn.training.augment import Augment

__all__ = ["Predictor"]


class Predictor(Network):
    """A network that predicts data of all kinds; `Learner` adds learning."""

    def predict_proba(
        self,
        x: Any,
        batch_size: int = 32,
        progress: bool = False,
        on_error: str = "skip",
        *,
        out: np.ndarray | None = None,
        num_threads: int | None = None,
    ) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        x : array_like (N, ...), folder, sequence of photos, iterable of batches, or data set
            As for `fit`; labels are not looked at. A folder stands for all photos in it, in the order of
            `fastcnn.io.image.find_images`.
        batch_size : int
            Inputs that go through the network at once. It bounds the memory beside `x` and the result, also where `x`
            is not float32 or lies in a file (`numpy.memmap`).
        progress : bool
            Show a progress bar on stderr, or a line where tqdm is not installed.
        on_error : {"skip", "stop"}
            As for `fit`. The rows of photos that cannot be read are NaN.
        out : ndarray (N, classes), float32, optional
            C-contiguous; receives the probabilities.
        num_threads : int, optional
            Threads of this call, 1 to 1024, as in the context `fastcnn.num_threads`.

        Returns
        -------
        ndarray (N, classes), float32
            Probabilities by `task`: the softmax of the outputs; of several labels the sigmoid of each; of one output
            the probabilities of no and yes, (N, 2). A softmax or sigmoid that ends the network is not applied again.

        Raises
        ------
        ValueError
            If the outputs are not (N, classes), or there is one output, and `task` is not "binary".

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(2, 4))
        >>> model.predict_proba([[0.5, 1.0]]).sum().round(5).item()
        1.0
        """
        if not _is_batch(x):
            from fastcnn.training.predictions import predicted_data

            with threads_of_call(num_threads):
                found = predicted_data(self, x, batch_size, progress, on_error)
            if found is not None:
                if out is None:
                    return found
                np.copyto(check_out(out, found.shape, found.dtype), found)
                return out
        return super().predict_proba(x, batch_size, progress, out=out, num_threads=num_threads)

    def predict(
        self,
        x: Any,
        batch_size: int = 32,
        progress: bool = False,
        on_error: str = "skip",
        *,
        num_threads: int | None = None,
    ) -> np.ndarray:
        """Return the most probable class of each input, or its labels.

        Parameters
        ----------
        x, batch_size, progress, on_error, num_threads
            As in `predict_proba`.

        Returns
        -------
        ndarray (N,)
            Names of the classes if `classes` is set, otherwise their numbers (int64). If `task` is "multi_label",
            (N, labels) bool: whether the probability is above one half. A photo that cannot be read has the class "",
            the number -1, or no label.

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(1, 2))
        >>> model[0].weight, model[0].bias = [[1], [-1]], [0, 0]
        >>> model.classes = ["plus", "minus"]
        >>> model.predict([[3], [-3]]).tolist()
        ['plus', 'minus']
        """
        if _is_batch(x):
            return super().predict(x, batch_size, progress, num_threads=num_threads)
        with threads_of_call(num_threads):
            probable = self.predict_proba(x, batch_size, progress, on_error)
        predicted = most_likely(probable, self._task, self._classes)
        if predicted.ndim == 1:
            predicted[np.isnan(probable).all(axis=1)] = -1 if self._classes is None else ""
        return predicted

    def tta(
        self,
        x: Any,
        times: int = 4,
        augment: Augment | Callable[..., Any] | None = None,
        batch_size: int = 32,
        *,
        seed: int = 0,
        workers: int | None = None,
    ) -> np.ndarray:
        """Return the mean of the probabilities of each image and of changed copies of it: test-time augmentation.

        Parameters
        ----------
        x
            As for `predict_proba`, but for iterables.
        times : int
            Changed copies.
        augment : Augment or function, optional
            How to change them, as for `fit`; mirrored and slightly cropped by default.
        batch_size, seed, workers
            As for `fit`.

        Returns
        -------
        ndarray (N, classes), float32

        Examples
        --------
        >>> from fastcnn import zoo
        >>> zoo.lenet().tta(np.zeros((2, 1, 28, 28))).shape
        (2, 10)
        """
        from fastcnn.training.predictions import averaged_predictions

        return averaged_predictions(self, x, times, augment, batch_size, seed, workers)


def _is_batch(x: Any) -> bool:
    """Whether x is an array of numbers, which needs no reading."""
    return type(x) is np.ndarray and x.dtype.kind not in "UO"
