"""What classifiers reach with their defaults, on six small data sets that scikit-learn and scikit-image bring along.

    python benchmarks/defaults.py          # writes docs/defaults.md

Each set is halved several times; each classifier is trained on each half, and examined on the other. PyTorch's network
is what its tutorials show: two convolutions and poolings (for rows one hidden layer), Adam, 20 epochs.
All of it takes ten minutes of processor time.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from skimage import data as pictures
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import RepeatedStratifiedKFold
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


SETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits (8 x 8)": digits,
    "200 digits": few_digits,
    "faces or not (25 x 25)": faces,
    "textures (32 x 32)": textures,
    "wine (13 features)": rows(datasets.load_wine),
    "breast cancer (30 features)": rows(datasets.load_breast_cancer),
}

# Times that each is halved: 50 where a training of all classifiers takes less than 1 s, 20 below 2 s, and else 5.
HALVINGS = dict.fromkeys(SETS, 5) | {"200 digits": 50, "wine (13 features)": 50, "breast cancer (30 features)": 20}


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


def accuracies(name: str, classifiers: list[str], rounds: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """The accuracy of each training of each classifier on a set, and the median of its seconds."""
    x, y = SETS[name]()
    halves = list(RepeatedStratifiedKFold(n_splits=2, n_repeats=rounds, random_state=0).split(flat(x), y))
    for classifier in classifiers:
        np.random.seed(0)
        right, seconds = [], []
        for seed, (learn, examine) in enumerate(halves):
            start = time.perf_counter()
            predicted = CLASSIFIERS[classifier](x[learn], y[learn], x[examine], seed)
            seconds.append(time.perf_counter() - start)
            right.append(np.mean(predicted == y[examine]))
        yield classifier, np.array(right), float(np.median(seconds))


def error(differences: np.ndarray) -> float:
    """The standard error of a mean difference, for trainings on overlapping halves (Nadeau and Bengio, 2003)."""
    return float(np.sqrt((1 / len(differences) + 1) * differences.var(ddof=1)))


def ahead(found: dict[str, np.ndarray]) -> tuple[float, float, str]:
    """How far fastcnn is ahead of the best other, with the standard error, and which other that is."""
    best = max((name for name in found if name != "fastcnn"), key=lambda name: found[name].mean())
    differences = found["fastcnn"] - found[best]
    return float(differences.mean()), error(differences), best


_METHOD = """
Accuracy in percent, with nothing set, on data that scikit-learn and scikit-image bring along. Each set is halved
several times; each half is trained on, and the other examined. Cost alone says how often: 50 times where a training of
all four takes less than a second of a processor, 20 times below two seconds, and else 5 times. The last column is the
mean difference to the best of the others on the same halves. Its standard error is corrected for halves that overlap
(Nadeau and Bengio, 2003): it stays about as large as the deviation of one half's difference, however often a set is
halved. `python benchmarks/defaults.py` repeats it and writes this page (last on {date}, {machine}).
"""
_CLASSIFIERS = """
fastcnn is `ImageClassifier()`. For images it takes 400 steps of Adam in one cycle of learning rates, at least 20 epochs
and at most 200, on the network of `fastcnn.zoo.small_cnn`. For up to 512 rows of features it takes 400 steps of AdamW
on all rows, with one hidden layer, dropout and a smooth clip of features. The random forest and the SVM (on
standardised features) are scikit-learn's. PyTorch's is the small network of its tutorials after 20 epochs of Adam.
"""
_CHOICE = """
The network for rows was not chosen by these sets, but on eleven others, among settings that the literature offers:
[defaults_rows.md](defaults_rows.md) tells which.
"""


def filled(text: str) -> str:
    """A paragraph in lines of the same length."""
    return textwrap.fill(" ".join(text.split()), 116, break_on_hyphens=False)


def page(table: dict[str, dict[str, np.ndarray]]) -> str:
    """The page, with the best of each row in bold."""
    lines = [
        "# What the defaults reach",
        "",
        filled(_METHOD.format(date=datetime.date.today(), machine=platform.machine())),
        "",
        "| data | halved | " + " | ".join(CLASSIFIERS) + " | fastcnn ahead by |",
        "|---" * (len(CLASSIFIERS) + 3) + "|",
    ]
    behind = []
    for name, found in table.items():
        best = max(round(100 * values.mean(), 1) for values in found.values())
        cells = [f"{100 * values.mean():.1f}" for values in found.values()]
        shown = " | ".join(f"**{cell}**" if float(cell) == best else cell for cell in cells)
        gain, uncertain, other = ahead(found)
        times = len(found["fastcnn"]) // 2
        lines.append(f"| {name} | {times} | {shown} | {100 * gain:+.2f} ± {100 * uncertain:.2f} |")
        if round(100 * gain, 2) < 0:
            kind = "a tie" if -gain <= uncertain else "behind"
            behind.append(
                f"On {name} fastcnn has {-100 * gain:.2f} less than {other}, with a standard error of "
                f"{100 * uncertain:.2f}: {kind}."
            )
    told = " ".join(behind) or "On no set is the mean of fastcnn below that of another."
    lines += ["", filled(told), "", filled(_CLASSIFIERS), "", filled(_CHOICE)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table as it grows; write the page, if it is complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--classifiers", nargs="*", default=list(CLASSIFIERS), choices=list(CLASSIFIERS))
    parser.add_argument("--rounds", type=int, help="times that each set is halved (default: as the page tells)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table: dict[str, dict[str, np.ndarray]] = {}
    for name in options.sets:
        table[name] = {}
        for classifier, accuracy, seconds in accuracies(name, options.classifiers, options.rounds or HALVINGS[name]):
            table[name][classifier] = accuracy
            print(f"{name:30} {classifier:15} {100 * accuracy.mean():6.2f} %  {seconds:6.2f} s", flush=True)
    if options.sets == list(SETS) and options.classifiers == list(CLASSIFIERS):
        PAGE.write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
