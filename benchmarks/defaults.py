"""What classifiers reach with their defaults, on six small data sets that scikit-learn and scikit-image bring along.

    python benchmarks/defaults.py          # writes docs/defaults.md

Each classifier is trained on the same halves of each set, and examined on the others. PyTorch's network is what its
tutorials show: two convolutions and poolings (for rows one hidden layer), Adam, 20 epochs.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from skimage import data as pictures
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import fastcnn as fc

PAGE = Path(__file__).parents[1] / "docs" / "defaults.md"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images of 8 x 8."""
    bunch = datasets.load_digits()
    return bunch.images.astype(np.float32), bunch.target


def few_digits() -> tuple[np.ndarray, np.ndarray]:
    """200 of them."""
    x, y = digits()
    return x[:200], y[:200]


def faces() -> tuple[np.ndarray, np.ndarray]:
    """100 faces and 100 other pictures of 25 x 25."""
    return pictures.lfw_subset().astype(np.float32), np.repeat([1, 0], 100)


def textures() -> tuple[np.ndarray, np.ndarray]:
    """Parts of 32 x 32 of brick, grass, gravel and coins."""
    rng, x, y = np.random.default_rng(0), [], []
    for label, picture in enumerate((pictures.brick(), pictures.grass(), pictures.gravel(), pictures.coins())):
        for _ in range(100):
            top, left = (int(rng.integers(size - 32)) for size in picture.shape)
            x.append(picture[top : top + 32, left : left + 32])
            y.append(label)
    return np.stack(x), np.array(y)


def rows(load: Callable[..., object]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Rows of features."""
    return lambda: load(return_X_y=True)  # type: ignore[return-value]


SETS = {
    "digits (8 x 8)": digits,
    "200 digits": few_digits,
    "faces or not (25 x 25)": faces,
    "textures (32 x 32)": textures,
    "wine (13 features)": rows(datasets.load_wine),
    "breast cancer (30 features)": rows(datasets.load_breast_cancer),
}


def flat(x: np.ndarray) -> np.ndarray:
    """Images as rows."""
    return x.reshape(len(x), -1).astype(np.float32)


def of_scikit_learn(make: Callable[[], object]) -> Callable[..., np.ndarray]:
    """A classifier of scikit-learn's, on rows."""
    return lambda x, y, other, seed: make().fit(flat(x), y).predict(flat(other))  # type: ignore[attr-defined]


def fastcnn(x: np.ndarray, y: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
    """`ImageClassifier()` as it comes."""
    return fc.ImageClassifier(random_state=seed).fit(x, y).predict(other)


def pytorch(x: np.ndarray, y: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
    """The network of its tutorials."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    mean, deviation = x.mean(), x.std()
    if x.ndim == 2:
        mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
    inputs, others = (torch.from_numpy(((a - mean) / deviation).astype(np.float32)) for a in (x, other))
    count = int(y.max()) + 1
    if x.ndim == 2:
        net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, count))
    else:
        inputs, others = inputs[:, None], others[:, None]
        side = x.shape[1] // 4
        net = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * side * side, 128), nn.ReLU(), nn.Linear(128, count)),
        )
    optimizer, loss = torch.optim.Adam(net.parameters()), nn.CrossEntropyLoss()
    targets = torch.from_numpy(y.astype(np.int64))
    for _ in range(20):
        for part in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            loss(net(inputs[part]), targets[part]).backward()
            optimizer.step()
    with torch.no_grad():
        return net(others).argmax(1).numpy()


CLASSIFIERS = {
    "fastcnn": fastcnn,
    "random forest": of_scikit_learn(RandomForestClassifier),
    "SVM": of_scikit_learn(lambda: make_pipeline(StandardScaler(), SVC())),
    "PyTorch": pytorch,
}


def accuracies(name: str, classifiers: list[str], rounds: int) -> Iterator[tuple[str, float, float]]:
    """The mean accuracy of each classifier on a set, and the median of its seconds."""
    x, y = SETS[name]()
    halves = list(StratifiedShuffleSplit(rounds, test_size=0.5, random_state=0).split(flat(x), y))
    for classifier in classifiers:
        np.random.seed(0)
        right, seconds = [], []
        for seed, (learn, examine) in enumerate(halves):
            start = time.perf_counter()
            predicted = CLASSIFIERS[classifier](x[learn], y[learn], x[examine], seed)
            seconds.append(time.perf_counter() - start)
            right.append(np.mean(predicted == y[examine]))
        yield classifier, float(np.mean(right)), float(np.median(seconds))


def page(table: dict[str, dict[str, float]], rounds: int) -> str:
    """The page, with the best of each row in bold."""
    lines = [
        "# What the defaults reach",
        "",
        "Accuracy in percent, with nothing set, on data that scikit-learn and scikit-image bring along: trained on one",
        f"half and examined on the other, the mean of {rounds} divisions.",
        "`python benchmarks/defaults.py` repeats it and writes this page",
        f"(last on {datetime.date.today()}, {platform.machine()}).",
        "",
        "| data | " + " | ".join(CLASSIFIERS) + " |",
        "|---" * (len(CLASSIFIERS) + 1) + "|",
    ]
    for name, found in table.items():
        best = max(round(100 * value, 1) for value in found.values())
        cells = [f"{100 * value:.1f}" for value in found.values()]
        lines.append(f"| {name} | " + " | ".join(f"**{c}**" if float(c) == best else c for c in cells) + " |")
    lines += [
        "",
        "fastcnn is `ImageClassifier()`: 400 steps of Adam in one cycle of learning rates, at least 20 epochs and at",
        "most 200; the network of `fastcnn.zoo.small_cnn`, or one hidden layer for rows of features. The random forest",
        "and the SVM (on standardised features) are scikit-learn's, PyTorch's is the small network of its tutorials",
        "after 20 epochs of Adam.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table as it grows; write the page, if it is complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--classifiers", nargs="*", default=list(CLASSIFIERS), choices=list(CLASSIFIERS))
    parser.add_argument("--rounds", type=int, default=5, help="divisions of each set (default: 5)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table: dict[str, dict[str, float]] = {}
    for name in options.sets:
        table[name] = {}
        for classifier, accuracy, seconds in accuracies(name, options.classifiers, options.rounds):
            table[name][classifier] = accuracy
            print(f"{name:30} {classifier:15} {100 * accuracy:6.2f} %  {seconds:6.2f} s", flush=True)
    if options.sets == list(SETS) and options.classifiers == list(CLASSIFIERS):
        PAGE.write_text(page(table, options.rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
