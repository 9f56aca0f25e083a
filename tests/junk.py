"""Arguments of every kind for every public function, constructor, method and property.

As a program (``python junk.py AREA EXAMPLES SEED``) it calls all of an area, and tells what each call may not do: raise
anything but the errors that are meant for bad arguments, or raise them without telling what was expected. Whoever
starts it sees whether the interpreter survives.
"""

from __future__ import annotations

import contextlib
import copy
import fractions
import inspect
import io
import os
import random
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded_by
from hypothesis import strategies as st

import fastcnn as fc
from fastcnn import explain, layers, onnx_model, training, zoo
from fastcnn.io import image, torch_checkpoint, weights

# The errors that are meant for bad arguments, files that cannot be read, and diverging training.
MEANT = (TypeError, ValueError, OSError, MemoryError, ImportError, FloatingPointError)
MEMORY = 3 << 30

F4 = np.float32
IMAGES = np.linspace(-1, 1, 2 * 2 * 4 * 4, dtype=F4).reshape(2, 2, 4, 4)
SMALL = st.sampled_from([
    IMAGES, np.zeros((2, 2, 3, 3), F4), np.zeros((2, 1, 1, 1), F4), np.zeros((0, 2, 4, 4), F4),
    np.zeros((1, 2, 0, 4), F4), np.zeros(2, F4), F4(1), np.zeros((3, 2)), np.arange(2),
    np.ones((1, 2, 4, 4), bool), np.zeros(2, complex), np.array(["a"]), np.array([None]),
    np.zeros((1, 2, 4, 4), np.longdouble), np.zeros((2, 2, 2, 2, 2)), [[1.0], [2.0, 3.0]],
    np.zeros((1, 2, 4, 4), ">f4"), np.full((1, 2, 4, 4), np.nan, F4), np.array("2020", "M8[D]"),
    np.zeros((4, 4, 3), np.uint8), np.ma.masked_array([1.0, 2.0], [True, False]),
])  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from(
        [
            2**31,
            2**40,
            2**70,
            -(2**63),
            True,
            1.0,
            0.5,
            -1.5,
            np.int8(2),
            np.nan,
            np.inf,
            1e300,
            1j,
            fractions.Fraction(1, 3),
            np.bool_(True),
        ]
    ),
)
LEAVES = st.one_of(
    NUMBERS,
    st.none(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from(
        [
            "same",
            "valid",
            "\0",
            "\ud800",
            object(),
            int,
            len,
            print,
            Path("x"),
            io.BytesIO(b"x"),
            slice(3),
            ...,
            iter([1]),
            range(3),
            random.Random(0),
            fc.ReLU(),
            fc.Sequential(fc.ReLU()),
            fc.Adam(),
            fc.Cosine(),
            fc.CrossEntropy(),
            fc.Augment(),
        ]
    ),
)
JUNK = st.one_of(
    SMALL,
    LEAVES,
    st.lists(LEAVES, max_size=4),
    st.lists(NUMBERS, max_size=5).map(tuple),
    st.lists(SMALL, max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=2), st.integers(0, 3)), LEAVES, max_size=2),
    st.sets(st.integers()),
)
COUNTS = st.one_of(st.integers(-2, 3), st.sampled_from([True, 1.0, 0.5, None, "2", [1], 1j, np.nan, np.int8(2)]))
FLAGS = st.booleans()
RATES = st.sampled_from([0.0, 0.5, 1.0, 1e-3])


def network() -> fc.Model:
    model = fc.Sequential(
        fc.Conv2d(2, 2, 3, padding=1, rng=0), fc.BatchNorm2d(2), fc.ReLU(), fc.Flatten(), fc.Linear(32, 2, rng=0)
    )
    model.input_shape = (2, 4, 4)
    return model


NETWORK, IN_FOLDER = network(), "a"
STATE = {name: np.array(array) for name, array in NETWORK.state_dict().items()}
# What is right under a parameter's name, so that calls get further than the first check. A parameter whose name is in
# ONLY gets nothing else: the time that a call takes is up to its value, or it stands for the state of random numbers.
GOOD = {
    **dict.fromkeys(("x", "X", "images", "inputs", "pixels"), st.just(IMAGES)),
    "image": st.sampled_from([IMAGES[0], np.zeros((5, 4, 3), np.uint8), "photo.png"]),
    "source": st.sampled_from([np.zeros((5, 4, 3), np.uint8), "photo.png", Path("photo.png").name.encode()]),
    "sources": st.just([np.zeros((5, 4, 3), np.uint8)]), "patterns": st.sampled_from(["photo.png", ["*.png"]]),
    "preprocess": st.sampled_from([image.Preprocess(4), None]),
    "y": st.sampled_from([np.array([0, 1]), ["a", "b"], np.eye(2), None]),
    "path": st.sampled_from(["net", "weights.pth", IN_FOLDER, "pipe", "absent/x"]),
    "path_or_bytes": st.sampled_from(["weights.pth", b"PK"]),
    "weights": st.sampled_from(["net", None]), "checkpoint": st.sampled_from(["run", None]),
    "state": st.just(STATE), "tensors": st.just(STATE), "metadata": st.sampled_from([{"a": "b"}, None]),
    "model": st.just(NETWORK), "network": st.sampled_from(["auto", "lenet", NETWORK, lambda shape, classes: NETWORK]),
    "optimizer": st.sampled_from([fc.SGD(0.1), None, "adam"]), "loss": st.sampled_from(["mse", "cross_entropy"]),
    "schedule": st.sampled_from([fc.Cosine(), None, "cosine"]), "augment": st.sampled_from([fc.Augment(), None]),
    "validation": st.sampled_from([0.5, None, (IMAGES, [0, 1])]), "callbacks": st.sampled_from([(), [print]]),
    "shape": st.sampled_from([(2, 2), (2, 4, 4)]), "input_shape": st.sampled_from([(2, 4, 4), None]),
    "size": st.sampled_from([4, (4, 6)]), "kernel_size": st.sampled_from([3, (2, 1)]),
    "box": st.sampled_from([(0, 0, 2, 2), None]), "betas": st.just((0.9, 0.99)),
    "algorithm": st.sampled_from(["auto", "direct"]), "init": st.sampled_from([None, "he_normal", np.ones]),
    "name": st.sampled_from(["lenet", "loss"]), "classes": st.sampled_from([["a", "b"], None]),
    **dict.fromkeys(("in_channels", "out_channels", "num_features", "num_classes"), st.just(2)),
    **dict.fromkeys(("in_features", "out_features"), st.just(4)),
    **dict.fromkeys(("bias", "strict", "ceil_mode", "flip", "centered", "resume", "keep_best", "recompute"), FLAGS),
    **dict.fromkeys(("learning_rate", "momentum", "weight_decay", "eps", "gamma", "crop", "rotation", "mixup"), RATES),
}  # fmt: skip
ONLY = {
    "rng": st.sampled_from([0, None]), "init": GOOD["init"], "seed": st.integers(0, 3), "random_state": st.just(0),
    "out": st.none(), "progress": st.sampled_from([False, None]), "verbose": st.just(False),
    **dict.fromkeys(("epochs", "repeats", "times", "workers", "top", "n"), COUNTS),
    **dict.fromkeys(("width", "height", "rows", "columns"), COUNTS),
}  # fmt: skip


def parameters_of(function) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {p.name: p for p in inspect.signature(function).parameters.values() if p.kind not in kinds}


def arguments_of(parameters):
    def strategy(name):
        if name in ONLY:
            return ONLY[name]
        return st.one_of(GOOD[name], GOOD[name], JUNK) if name in GOOD else JUNK

    needed = {p.name: strategy(p.name) for p in parameters.values() if p.default is inspect.Parameter.empty}
    rest = {p.name: strategy(p.name) for p in parameters.values() if p.default is not inspect.Parameter.empty}
    return st.fixed_dictionaries(needed, optional=rest)


def layer_and_call(kind):
    def call(x, **settings):
        kind(**settings)(x)

    parameters = [] if kind.__init__ is object.__init__ else list(parameters_of(kind).values())
    x = inspect.Parameter("x", inspect.Parameter.KEYWORD_ONLY)
    call.__signature__ = inspect.Signature([*(p.replace(kind=p.KEYWORD_ONLY) for p in parameters), x])
    return call


def methods(label, make, names):
    """Calls of the methods of a fresh object each."""
    for name in names:

        def call(*, _name=name, **arguments):
            found = getattr(make(), _name)(**arguments)
            if inspect.isgenerator(found):
                list(found)

        call.__signature__ = inspect.signature(getattr(make(), name))
        yield f"{label}.{name}", call


def setters(label, make, names):
    for name in names:

        def call(value, _name=name):
            made = make()
            setattr(made, _name, value)
            if isinstance(made, fc.Model):
                with contextlib.suppress(*MEANT):
                    made.summary()
                made.graph((2, 4, 4))

        call.__signature__ = inspect.Signature([inspect.Parameter("value", inspect.Parameter.KEYWORD_ONLY)])
        yield f"{label}.{name} =", call


def sequential(layers):
    fc.Sequential(*(layers if isinstance(layers, (list, tuple)) else [layers]))(IMAGES)


def iterate(x):
    """An iterable of batches."""
    network().fit(iter(x) if hasattr(x, "__iter__") and getattr(x, "ndim", 1) else x, epochs=1)


def trainer() -> fc.Trainer:
    return fc.Trainer(network(), fc.SGD(0.1))


def classifier() -> fc.ImageClassifier:
    return fc.ImageClassifier(epochs=1, random_state=0).fit(IMAGES, [0, 1])


def fitted(**settings):
    X = settings.pop("X")
    fc.ImageClassifier(**settings).fit(X, settings.pop("y", [0, 1])).predict(X)


fitted.__signature__ = inspect.Signature(
    [
        *(p.replace(kind=p.KEYWORD_ONLY) for p in parameters_of(fc.ImageClassifier).values()),
        inspect.Parameter("X", inspect.Parameter.KEYWORD_ONLY),
    ]
)


def functions(module, without=()):
    return {name: getattr(module, name) for name in module.__all__ if name not in without}


def layer_calls():
    kinds = {
        name: kind
        for name, kind in functions(layers).items()
        if inspect.isclass(kind) and issubclass(kind, layers.Layer) and kind is not layers.Layer
    }
    yield from ((name, layer_and_call(kind)) for name, kind in kinds.items())
    yield from (("Parameter", lambda value: layers.Parameter(value)), ("Buffer", lambda value: layers.Buffer(value)))
    yield from methods("Linear", lambda: fc.Linear(4, 2, rng=0), ("load_state_dict", "named_layers", "freeze"))
    yield from setters("Conv2d", lambda: fc.Conv2d(2, 2, 3, rng=0), ("weight", "bias", "stride", "other"))
    yield "Sequential", sequential


def model_calls():
    names = (
        *("predict", "predict_proba", "evaluate", "graph", "summary", "save", "load_weights", "load_state_dict"),
        *("export_onnx", "replace_head", "tta", "feature_maps", "embed"),
    )
    yield from methods("Sequential", network, names)
    yield from methods("with photos", photo_network, ("classify",))
    yield from setters("Sequential", network, ("classes", "input_shape", "preprocess", "scaling", "task", "0"))
    yield from setters("Sequential", network, ("tuning", "reproducible", "strict"))
    yield "call", lambda x: network()(x)
    yield from methods("Sequential", network, ("profile", "tune"))


def photo_network() -> fc.Model:
    model = fc.Sequential(fc.Flatten(), fc.Linear(48, 2, rng=0))
    model.preprocess = image.Preprocess(4)
    return model


_UNFIT = ("History", "Report", "Loss", "Optimizer", "Trainer")
_NEED_PACKAGES = ("MLflowLogger", "TensorBoardLogger")


def training_calls():
    yield from functions(training, (*_UNFIT, *_NEED_PACKAGES)).items()
    yield "Trainer", fc.Trainer
    yield from methods("Trainer", trainer, ("step", "load_state_dict"))
    yield from setters("Trainer", trainer, ("learning_rate",))
    yield from methods("Sequential", network, ("fit",))
    yield "fit of batches", iterate
    for loss in (fc.MSE, fc.CrossEntropy, fc.BinaryCrossEntropy):
        yield from methods(loss.__name__, loss, ("target",))
    for schedule in (fc.Cosine, fc.OneCycle, lambda: fc.Warmup(1), lambda: fc.StepDecay(1)):
        yield from methods(type(schedule()).__name__, schedule, ("__call__",))
    yield from methods("History", lambda: training.History({"loss": [1.0, 2.0]}), ("best",))
    yield from methods("Adam", fc.Adam, ("numbers",))
    yield from methods("Augment", lambda: fc.Augment(mixup=0.2), ("__call__", "change", "draw_crop", "mix"))


def explain_calls():
    yield from functions(explain, ("Layer", "Neighbour")).items()


def io_calls():
    for module in (weights, image, torch_checkpoint, onnx_model):
        yield from functions(module, ("is_torch_checkpoint",)).items()
    yield "load", fc.load
    yield from methods("Preprocess", lambda: image.Preprocess(4), ("__call__", "pixels", "resized", "normalise"))
    yield "from_dict", image.Preprocess.from_dict


def estimator_calls():
    yield "ImageClassifier", fitted
    yield from methods("ImageClassifier", lambda: fc.ImageClassifier(epochs=1, random_state=0), ("fit", "partial_fit"))
    yield from methods(
        "fitted", lambda: copy.copy(classifier()), ("predict", "predict_proba", "score", "partial_fit", "save")
    )
    yield "ImageClassifier.load", fc.ImageClassifier.load


def top_calls():
    yield from functions(zoo).items()
    yield "set_num_threads", lambda n: fc.set_num_threads(n)
    yield "num_threads", lambda n: fc.num_threads(n).__enter__()
    yield "concat", fc.concat
    yield "prepare", lambda function, shape: fc.prepare(function, shape)
    yield "prepare.call", lambda x, out: fc.prepare(network(), (1, 2, 4, 4))(x, out=out)


SLOW = {*zoo.names(), "load_pretrained"} - {"lenet", "resnet20", "small_cnn"}  # large networks
AREAS = {
    "layers": layer_calls,
    "model": model_calls,
    "training": training_calls,
    "explain": explain_calls,
    "io": io_calls,
    "estimator": estimator_calls,
    "top": top_calls,
}


# The last four are the beginnings of messages that scikit-learn's checks ask for.
TELLING = ("expected", "Complex data not supported", "Expected 2D array", "Found array with", "Found input variables")


def tells(error: BaseException, names) -> bool:
    """Whether a message names an argument, or what was expected of it."""
    text = str(error)
    if isinstance(error, (OSError, MemoryError, fc.ModelLoadError, fc.ImageError)):
        return True  # the last two name the file, or "the bytes", and the cause
    return any(word in text for word in (*names, *TELLING))


def place_of(error: BaseException) -> str:
    frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    return " ".join(frames[-3:])


def brief(arguments) -> str:
    return ", ".join(
        f"{name}={type(value).__name__} {' '.join(repr(value)[:40].split())}" for name, value in arguments.items()
    )


def examine(label, function, examples, seed, found):
    parameters = parameters_of(function)
    meant = (*MEANT, AttributeError) if label.endswith("=") else MEANT  # as Python says where a name is taken
    names = [*parameters, *([label.rstrip(" =").rpartition(".")[2]] if label.endswith("=") else ())]

    @seeded_by(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(arguments_of(parameters))
    def check(arguments):
        given = {name: copy.copy(value) if isinstance(value, dict) else value for name, value in arguments.items()}
        try:
            function(**given)
        except BaseException as error:
            if not isinstance(error, meant) or not tells(error, names):
                found.setdefault(
                    f"{label}: {type(error).__name__} at {place_of(error)}",
                    f"{str(error)[:200]!r} for {brief(arguments)}",
                )

    check()


def prepare() -> None:
    """The files that good paths name, in the folder of the process."""
    os.mkdir(IN_FOLDER)
    os.mkfifo("pipe")
    network().save("net")
    from PIL import Image

    Image.new("RGB", (5, 4)).save("photo.png")


def main(area: str, examples: int, seed: int) -> int:
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found: dict[str, str] = {}
    calls = list(AREAS[area]())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        for label, function in calls:
            print(label, flush=True)  # the last one, should the interpreter not survive
            with contextlib.redirect_stdout(io.StringIO()):
                examine(label, function, 2 if label in SLOW else max(2, examples // len(calls)), seed, found)
        os.chdir(os.sep)
    for where, what in found.items():
        print("WRONG", where, what)
    return len(found) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
