"""`ImageClassifier`: a network behind scikit-learn's estimator contract.

What an input or a label may be is checked in _sklearn.py; axes of images and their scaling are estimator_inputs.py's,
files estimator_file.py's, learning itself is training/'s. Here: parameters, and names of classes of any type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn._arguments import as_flag, as_real_array, as_share
from fastcnn._sklearn import (
    Parameters,
    check_feature_names,
    checked_inputs,
    checked_labels,
    checked_weights,
    feature_names,
    not_fitted,
)
from fastcnn.estimator_file import load_classifier, save_classifier, with_scaling
from fastcnn.estimator_inputs import (
    begins_pretrained,
    build_network,
    channels_first,
    check_shape,
    class_weight_of,
    numbered,
    of_classes,
    prepare_network,
    seed_of,
    shape_for,
    source_for,
)
from fastcnn.estimator_steps import SCHEDULES, batch_size_of, check_names, optimizer_of, steps_for
from fastcnn.model import Model
from fastcnn.training.augment import Augment
from fastcnn.training.augment_functions import as_augment
from fastcnn.training.begin import fit
from fastcnn.training.data import Dataset, Source
from fastcnn.training.loader import Batches
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.options import Options
from fastcnn.training.predictions import predictions
from fastcnn.training.prepare import is_paths
from fastcnn.training.trainer import Trainer

__all__ = ["ImageClassifier"]


class ImageClassifier(Parameters):
    """A convolutional network as a scikit-learn classifier: in pipelines, cross-validation and grid search.

    Parameters
    ----------
    network : str, Model or function
        "auto" is a small network that suits the inputs (`fastcnn.zoo.small_cnn` for images, one hidden layer for rows
        of features). Else a name of `fastcnn.zoo`, a model (which is copied; it needs one output for each class, or a
        single one for two classes), or a function of (input_shape, num_classes) that returns a model.
    input_shape : tuple of int, optional
        (channels, height, width) of images that come flattened, as rows of features; and of photos in files.
    pretrained : bool or "auto"
        Begin with ImageNet weights (`fastcnn.load_pretrained`) and train the last layer. Inputs are photos then: files,
        or uint8 (N, H, W, 3). "auto" is True where `fit` is given fewer than 5000 photos from 64 pixels on, but neither
        `network` nor `input_shape`, and the weights are installed.
    epochs : int, optional
        How often `fit` goes through the data: 20 times, or as makes 400 steps, up to 200 times.
    batch_size : int, optional
        32.
    class_weight : "auto", "balanced", dict, sequence or None
        What the inputs of each class count in the loss: by label, or in the order of `classes_`. "balanced" lets each
        class count the same; "auto" does, where one has more than three times the inputs of another.
    optimizer : {"auto", "adam", "adamw", "rmsprop", "sgd"}
        "auto" is Adam. The last has Nesterov's momentum of 0.9.
    learning_rate : float
    schedule : {"one_cycle", "cosine", "constant"}
    augment : Augment or function, optional
        Random changes to images, as for `Model.fit`. Searches reach into it: ``augment__flip``.
    validation_fraction : float
        Share of the data that `patience` watches, if it is above 0; the best weights are kept.
    patience : int, optional
        Epochs without a better loss after which training stops.
    warm_start : bool
        Whether `fit` continues what was learned before, for `epochs` more epochs.
    random_state : int, RandomState or None
        Of first weights, order and augmentation. The same integer gives the same bits on any number of threads.
    verbose : bool
        Show on stderr how far it is, as `Model.fit` does.

    Attributes
    ----------
    classes_ : ndarray
        Labels as they were given, sorted.
    model_ : Model
        The network; its outputs are in the order of `classes_`. Scaling, preprocessing and names of classes are parts
        of it: saved or exported, it takes the same inputs.
    n_features_in_ : int
        Numbers in one input.
    feature_names_in_ : ndarray of str
        Names of the columns, where the first data were a data frame.
    n_iter_ : int
        Epochs that `fit` and `partial_fit` have gone through.
    loss_curve_ : list of float
        Mean loss of each.

    Notes
    -----
    Images are (N, C, H, W), (N, H, W, C) or (N, H, W). Channels are the last axis if that has 1, 3 or 4 entries and
    axis 1 has not. Each channel (each feature, of rows) is standardised by its mean and deviation in the first data.

    Up to 512 rows of features are learned in 400 steps on all of them. AdamW takes these, with a weight decay of 1.
    `network`, `epochs`, `batch_size`, `optimizer` and `patience` change that, if one is given.

    scikit-learn need not be installed; its ``check_estimator`` passes, but that weights do not stand for repetitions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 100, (60, 12, 12, 3), dtype=np.uint8)
    >>> labels = np.array(["dark", "bright"] * 30)
    >>> images[1::2, 3:9, 3:9] += 100
    >>> classifier = ImageClassifier(epochs=5, random_state=0).fit(images, labels).partial_fit(images, labels)
    >>> classifier.score(images, labels), classifier.predict(images[:1]), classifier.predict_proba(images).shape
    (1.0, array(['dark'], dtype='<U6'), (60, 2))
    """

    loss_curve_: list[float]
    n_iter_: int

    def __init__(
        self,
        network: str | Model | Callable[[tuple[int, ...], int], Model] = "auto",
        *,
        input_shape: Sequence[int] | None = None,
        pretrained: bool | str = "auto",
        epochs: int | None = None,
        batch_size: int | None = None,
        class_weight: Any = "auto",
        optimizer: str = "auto",
        learning_rate: float = 3e-3,
        schedule: str = "one_cycle",
        augment: Augment | Callable[..., Any] | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.input_shape = input_shape
        self.pretrained = pretrained
        self.epochs = epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.augment = augment
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # -- learning -------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ImageClassifier:
        """Learn from scratch; or go on, with `warm_start`.

        Parameters
        ----------
        X : array_like, or sequence of paths
            Images, rows of features, or files.
        y : array_like (N,)
            Labels: integers, strings, bools.
        sample_weight : array_like (N,), optional
            What each input counts in the loss.

        Returns
        -------
        ImageClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            Naming what does not fit.
        KeyboardInterrupt
            By Ctrl-C, so that searches and pipelines end, too; `model_` has learned until then.
        """
        check_names(self.optimizer, self.schedule)
        share = as_share(self.validation_fraction, "ImageClassifier: validation_fraction")
        inputs, labels = self._checked(X, y)
        classes, targets = numbered(labels, "y")
        weights = checked_weights(sample_weight, len(targets))
        if not (as_flag(self.warm_start, "ImageClassifier: warm_start") and hasattr(self, "model_")):
            start = begins_pretrained(self.pretrained, self.network, self.input_shape, inputs)
            self._begin(inputs, classes, start)
        elif not np.array_equal(classes, self.classes_):
            raise ValueError(f"y has the classes {classes.tolist()}, expected {self.classes_.tolist()}, for warm_start")
        steps = steps_for(self, self._shape, len(targets))
        options = Options(
            epochs=steps.epochs,
            class_weight=class_weight_of(self.class_weight, classes, targets),
            sample_weight=weights,
            batch_size=steps.batch_size,
            validation=share if share > 0 else None,
            optimizer=steps.optimizer,
            loss=self._loss(),
            schedule=SCHEDULES[self.schedule],
            augment=self.augment,
            patience=self.patience,
            keep_best=share > 0,
            seed=self._seed,
            progress=bool(self.verbose),
            on_error="stop",
            continues=bool(self.warm_start),
            raises=True,
        )
        history = fit(self.model_, self._source(inputs), targets, options)
        self.loss_curve_ += history.get("loss", [])
        self.n_iter_ += history.epochs
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> ImageClassifier:
        """Learn from some more data: one pass over them, at `learning_rate`.

        Parameters
        ----------
        X, y
            As for `fit`.
        classes : array_like, optional
            All labels there will ever be; needed by the first call only.

        Returns
        -------
        ImageClassifier
            Itself.
        """
        check_names(self.optimizer, self.schedule)
        is_first = not hasattr(self, "model_")
        if is_first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        inputs, labels = self._checked(X, y, reset=is_first)
        if is_first:
            self._begin(inputs, numbered(classes, "classes")[0], self.pretrained is True)
        elif classes is not None and not np.array_equal(numbered(classes, "classes")[0], self.classes_):
            known = self.classes_.tolist()
            raise ValueError(f"classes={classes!r} is not the same as on the first call to partial_fit: {known}")
        try:
            targets = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        except TypeError as error:
            raise TypeError(f"y: {error}, expected labels such as {self.classes_.tolist()}") from None
        if unknown := sorted(set(labels[self.classes_[targets] != labels].tolist())):
            raise ValueError(f"y has the class {unknown[0]!r}, expected one of {self.classes_.tolist()}")
        data = Dataset.of(self._source(inputs), targets)
        outputs = 1 if self.model_.task == "binary" else len(self.classes_)
        augment = as_augment(self.augment, "ImageClassifier: augment")
        batches = Batches(data, batch_size_of(self.batch_size), outputs, augment=augment, seed=self._seed)
        trainer = self._resumed_trainer()
        losses = [trainer.step(batch.x, batch.y) * len(batch.x) for batch in batches.epoch(self.n_iter_)]
        trainer.sync()
        self.loss_curve_.append(sum(losses) / len(data))
        self.n_iter_ += 1
        return self

    def _begin(self, inputs: Any, classes: np.ndarray, pretrained: bool) -> None:
        """Build the network, and take the measure of the inputs."""
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, which have "
                f"only one class: {', '.join(map(str, classes))}"
            )
        self.classes_ = classes
        self._seed = seed_of(self.random_state)
        self._takes_photos = is_paths(inputs) or pretrained
        self._shape = shape_for(inputs, self.input_shape)
        if not is_paths(inputs):
            self.n_features_in_ = int(np.prod(self._shape))
        photos = self.input_shape if is_paths(inputs) else None
        model = build_network(self.network, pretrained, self._shape, len(classes), self._seed, photos)
        prepare_network(model, inputs, classes, self._takes_photos, self.network)
        self.model_ = model
        self.loss_curve_, self.n_iter_ = [], 0
        self._trainer: Trainer | None = None
        self._trainer_state: dict[str, np.ndarray] | None = None

    def _loss(self) -> str:
        return "binary_cross_entropy" if self.model_.task == "binary" else "cross_entropy"

    def _optimizer(self) -> Optimizer:
        return optimizer_of(self.optimizer, self.learning_rate)

    def _resumed_trainer(self) -> Trainer:
        if self._trainer is None:
            self._trainer = Trainer(self.model_, self._optimizer(), self._loss(), seed=self._seed)
            if self._trainer_state is not None:
                self._trainer.load_state_dict(self._trainer_state)
                self._trainer_state = None
        return self._trainer

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        trainer = state.get("_trainer")
        if trainer is not None:  # compiled steps stay here; what they have learned goes along
            trainer.sync()
            state.update(_trainer=None, _trainer_state=trainer.state_dict())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(with_scaling(state))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, in the order of `classes_`.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        ndarray (N, classes), float32
        """
        if not hasattr(self, "model_"):
            raise not_fitted(self)
        inputs, _ = self._checked(X, reset=False)
        data = Dataset.of(self._source(inputs), np.zeros(len(inputs), np.int64))
        return of_classes(
            np.concatenate(list(predictions(self.model_, data, batch_size_of(self.batch_size)))), self.classes_
        )

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each input.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        ndarray (N,)
            Of `classes_`.
        """
        probabilities = self.predict_proba(X)
        best: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return best

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of the inputs whose class is recognised.

        Parameters
        ----------
        X, y
            As for `fit`.
        sample_weight : array_like (N,), optional
            How much each counts.

        Returns
        -------
        float
        """
        predicted = self.predict(X)
        labels = checked_labels(y, len(predicted), self)
        weights = None if sample_weight is None else as_real_array(sample_weight, "sample_weight")
        if weights is not None and weights.shape != labels.shape:
            raise ValueError(f"sample_weight.shape={weights.shape}, expected {labels.shape}, as y")
        return float(np.average(predicted == labels, weights=weights))

    # -- files ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the classifier to one file, which `load` and `fastcnn.load` read, and the command line takes.

        Parameters
        ----------
        path : path-like
            .safetensors; or .onnx, which keeps the network and the names of classes alone.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            If it has not learned anything yet; if the suffix is another one.
        OSError
            If the file cannot be written.

        Notes
        -----
        `partial_fit` of the classifier that was read begins with fresh running means of the optimizer; a pickle keeps
        them.
        """
        if not hasattr(self, "model_"):
            raise not_fitted(self)
        save_classifier(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ImageClassifier:
        """Read what `save` has written, or any other model that `fastcnn.load` reads.

        Parameters
        ----------
        path : path-like
            It can come from anyone: it is checked, and nothing in it is run.

        Returns
        -------
        ImageClassifier
            Ready to predict, and for `partial_fit`. `network` is the model, where it was not a name.

        Raises
        ------
        ModelLoadError
            If the file is damaged, or no model.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> import tempfile
        >>> classifier = ImageClassifier(epochs=1, random_state=0).fit([[0.0], [9.0]], ["low", "high"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     classifier.save(f"{folder}/c.safetensors")
        ...     ImageClassifier.load(f"{folder}/c.safetensors").classes_.tolist()
        ['high', 'low']
        """
        loaded: ImageClassifier = load_classifier(cls, path)
        return loaded

    # -- inputs ---------------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any = ..., reset: bool = True) -> tuple[Any, np.ndarray]:
        """Return inputs (files, or an array with channels first), and labels."""
        inputs = list(X) if is_paths(X) else channels_first(checked_inputs(X), self.input_shape)
        names = feature_names(X)
        if reset:
            self.__dict__.pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = names
        elif isinstance(inputs, np.ndarray):
            check_feature_names(names, self.__dict__.get("feature_names_in_"), self)
            if not self._takes_photos:
                check_shape(inputs.shape[1:], self._shape, type(self).__name__)
        return inputs, np.empty(0) if y is ... else checked_labels(y, len(inputs), self)

    def _source(self, inputs: Any) -> Source:
        return source_for(self.model_, inputs, self._takes_photos)
