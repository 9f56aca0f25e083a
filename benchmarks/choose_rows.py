"""How the default network for rows of features is chosen, on sets that docs/defaults.md does not examine it on.

    python benchmarks/choose_rows.py       # writes docs/defaults_rows.md

Eleven sets that scikit-learn brings along or makes; wine and breast cancer are not among them. The candidates are what
textbooks and papers offer, with the settings that they offer. All train with the steps and the rate of
`ImageClassifier`.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from defaults import error, filled
from scipy.stats import rankdata
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import fastcnn as fc
from fastcnn.training.defaults import epochs_for

PAGE = Path(__file__).parents[1] / "docs" / "defaults_rows.md"
RATE, BATCH = 3e-3, 32  # the estimator's
CLIP = 3.0  # deviations that features are clipped to


def halved(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two classes: below and above the median."""
    return x, (y > np.median(y)).astype(int)


def two_normal() -> tuple[np.ndarray, np.ndarray]:
    """Two normal distributions of 20 features (Breiman's twonorm)."""
    y = np.arange(300) % 2
    return np.random.default_rng(0).standard_normal((300, 20)) + (2 * y[:, None] - 1) * 2 / np.sqrt(20), y


def digit_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits as rows of 64 numbers."""
    x, y = datasets.load_digits(return_X_y=True)
    return x[:count], y[:count]


def made(features: int, informative: int, **settings: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """A set of scikit-learn's making."""
    return lambda: datasets.make_classification(
        n_features=features, n_informative=informative, random_state=0, **settings
    )


SETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "diabetes, halved": lambda: halved(*datasets.load_diabetes(return_X_y=True)),
    "300 digits as rows": lambda: digit_rows(300),
    "1000 digits as rows": lambda: digit_rows(1000),
    "Hastie's 10.2": lambda: halved(*datasets.make_hastie_10_2(400, random_state=0)),
    "Friedman's 1, halved": lambda: halved(*datasets.make_friedman1(400, random_state=0)),
    "two normal": two_normal,
    "moons": lambda: datasets.make_moons(200, noise=0.25, random_state=0),
    "20 features": made(20, 5, n_samples=300, n_classes=3),
    "50 features": made(50, 10, n_samples=200, n_redundant=20),
    "shells": lambda: datasets.make_gaussian_quantiles(n_samples=400, n_features=6, n_classes=3, random_state=0),
}


@dataclass(frozen=True)
class Candidate:
    """A network for rows, and how it differs from others in training."""

    units: int
    dropout: tuple[float, float] = (0.0, 0.0)
    layers: int = 1
    members: int = 1
    activation: Callable[[], fc.layers.Layer] = fc.ReLU
    clip: bool = False
    smoothing: float = 0.0
    decay: float = 0.0
    rate: float = RATE
    fit: dict[str, Any] = field(default_factory=dict)

    def predictions(self, x: np.ndarray, y: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
        """Train each member, and predict others by the mean of their probabilities."""
        seeds = [seed + 1000 * member for member in range(self.members)]
        return np.mean([self.trained(x, y, each).predict_proba(other) for each in seeds], axis=0).argmax(axis=1)

    def trained(self, x: np.ndarray, y: np.ndarray, seed: int) -> fc.Model:
        """A network after training."""
        model = self.network(x, int(y.max()) + 1, seed)
        optimizer = fc.AdamW(self.rate, weight_decay=self.decay) if self.decay else fc.Adam(self.rate)
        loss = fc.CrossEntropy(label_smoothing=self.smoothing)
        settings = {"epochs": epochs_for(len(x), BATCH), "batch_size": BATCH, "schedule": fc.OneCycle(), **self.fit}
        model.fit(x, y, optimizer=optimizer, loss=loss, seed=seed, progress=False, **settings)
        return model

    def network(self, x: np.ndarray, classes: int, seed: int) -> fc.Model:
        """A network before training; a smooth clip is 3 tanh(z / 3) of the standardised features z."""
        count = x.shape[1]
        with fc.layers.seeded(seed):
            layers = [*([fc.Tanh()] if self.clip else []), fc.Dropout(self.dropout[0])]
            for _ in range(self.layers):
                hidden = fc.Linear(count, self.units, init="he_normal")
                layers += [hidden, self.activation(), fc.Dropout(self.dropout[1])]
                count = self.units
            model = fc.Sequential(*layers, fc.Linear(count, classes))
        deviation = x.std(axis=0) + 1e-9
        if self.clip:
            first = next(layer for layer in layers if isinstance(layer, fc.Linear))
            first.weight = first.weight * CLIP
            deviation *= CLIP
        model.scaling = x.mean(axis=0), deviation
        return model


@dataclass(frozen=True)
class Other:
    """A classifier of scikit-learn's, for comparison: it is no candidate."""

    make: Callable[[], Any]

    def predictions(self, x: np.ndarray, y: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
        """Train it, and predict others."""
        np.random.seed(seed)
        found: np.ndarray = self.make().fit(x, y).predict(other)
        return found


PUBLISHED = (0.2, 0.5)  # shares of features and of hidden units that are dropped
LESS = (0.1, 0.5)
WHOLE = {"batch_size": 2000, "epochs": 400}  # more rows than any set has, and a step an epoch
DEFAULT = "1024 units, dropout 0.2 and 0.5"
SPHERES = ("Hastie's 10.2", "shells")  # sets whose borders are spheres


def whole(dropout: tuple[float, float] = LESS, decay: float = 1.0, steps: int = 400, **settings: Any) -> Candidate:
    """Steps on all rows, by AdamW."""
    return Candidate(1024, dropout, decay=decay, fit={**WHOLE, "epochs": steps}, **settings)


CANDIDATES: dict[str, Candidate | Other] = {
    "SVM, no candidate": Other(lambda: make_pipeline(StandardScaler(), SVC())),
    "random forest, no candidate": Other(RandomForestClassifier),
    "64 units": Candidate(64),
    "64 units, AdamW with weight decay 0.1": Candidate(64, decay=0.1),
    "64 units, moving average 0.98": Candidate(64, fit={"ema": 0.98}),
    "64 units, dropout 0.2 and 0.5": Candidate(64, PUBLISHED),
    "512 units": Candidate(512),
    "512 units, label smoothing 0.1": Candidate(512, smoothing=0.1),
    "512 units, dropout 0 and 0.15": Candidate(512, (0.0, 0.15)),
    "512 units, dropout 0 and 0.5": Candidate(512, (0.0, 0.5)),
    "512 units, dropout 0.1 and 0.25": Candidate(512, (0.1, 0.25)),
    "512 units, dropout 0.2 and 0.5": Candidate(512, PUBLISHED),
    "512 units, dropout 0.2 and 0.5, rate 0.01": Candidate(512, PUBLISHED, rate=1e-2),
    "2 layers of 512 units, dropout 0.2 and 0.5": Candidate(512, PUBLISHED, layers=2),
    "1024 units": Candidate(1024),
    "1024 units, dropout 0 and 0.5": Candidate(1024, (0.0, 0.5)),
    "1024 units, dropout 0.1 and 0.5": Candidate(1024, LESS),
    DEFAULT: Candidate(1024, PUBLISHED),
    "the same, moving average 0.98": Candidate(1024, PUBLISHED, fit={"ema": 0.98}),
    "the same, AdamW with weight decay 1": Candidate(1024, PUBLISHED, decay=1.0),
    "the same, label smoothing 0.1": Candidate(1024, PUBLISHED, smoothing=0.1),
    "the same, rate 0.01": Candidate(1024, PUBLISHED, rate=1e-2),
    "the same, SiLU": Candidate(1024, PUBLISHED, activation=fc.SiLU),
    "the same, SiLU, rate 0.01": Candidate(1024, PUBLISHED, activation=fc.SiLU, rate=1e-2),
    "the same, smooth clip of features": Candidate(1024, PUBLISHED, clip=True),
    "the same, mean of 4": Candidate(1024, PUBLISHED, members=4),
    "mean of 4 with 256 units, dropout 0.2 and 0.5": Candidate(256, PUBLISHED, members=4),
    "dropout 0.1 and 0.5, SiLU": Candidate(1024, LESS, activation=fc.SiLU),
    "dropout 0.1 and 0.5, tanh": Candidate(1024, LESS, activation=fc.Tanh),
    "dropout 0.1 and 0.5, mean of 4": Candidate(1024, LESS, members=4),
    "dropout 0.1 and 0.5, constant rate, moving average 0.99": Candidate(
        1024, LESS, fit={"schedule": None, "ema": 0.99}
    ),
    "dropout 0.1 and 0.5, decay 1": Candidate(1024, LESS, decay=1.0),
    "whole batch, dropout 0.1 and 0.5": whole(decay=0.0),
    "whole batch, decay 1": whole((0.0, 0.0)),
    "whole batch, decay 1, dropout 0.1 and 0.5": whole(),
    "whole batch, decay 1, dropout 0.2 and 0.5": whole(PUBLISHED),
    "whole batch, decay 3, dropout 0.1 and 0.5": whole(decay=3.0),
    "whole batch, decay 1, 1000 steps, dropout 0.1 and 0.5": whole(steps=1000),
    "whole batch, decay 1, rate 0.01, dropout 0.1 and 0.5": whole(rate=1e-2),
    "whole batch, decay 1, label smoothing 0.1, dropout 0.1 and 0.5": whole(smoothing=0.1),
    "whole batch, decay 1, smooth clip, dropout 0.1 and 0.5": whole(clip=True),
    "whole batch, decay 1, SiLU, dropout 0.1 and 0.5": whole(activation=fc.SiLU),
    "whole batch, decay 1, dropout 0.1 and 0.5, mean of 4": whole(members=4),
}


def accuracies(candidate: Candidate | Other, name: str, rounds: int, start: int = 0) -> np.ndarray:
    """The accuracy on each half of a set; `start` chooses the halves."""
    x, y = SETS[name]()
    x = x.astype(np.float32)
    halves = RepeatedStratifiedKFold(n_splits=2, n_repeats=rounds, random_state=start).split(x, y)
    found = [
        np.mean(candidate.predictions(x[learn], y[learn], x[examine], seed) == y[examine])
        for seed, (learn, examine) in enumerate(halves)
    ]
    return np.array(found)


def ranks(table: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """The mean place of each candidate; those that are equal on a set share their places."""
    return np.mean([rankdata([-found[name].mean() for found in table.values()]) for name in SETS], axis=0)


def shifted_error(found: dict[str, np.ndarray]) -> float:
    """The geometric mean over sets of the error and one hundredth (Holzmüller et al., 2024)."""
    return float(np.exp(np.mean([np.log(1.01 - of_set.mean()) for of_set in found.values()])))


def ahead(found: dict[str, np.ndarray], default: dict[str, np.ndarray]) -> tuple[float, float]:
    """How far a candidate is ahead of the default on the same halves, and the standard error: sets are independent."""
    differences = [found[name] - default[name] for name in SETS]
    errors = [error(of_set) for of_set in differences]
    return float(np.mean(differences)), float(np.sqrt(np.square(errors).sum()) / len(SETS))


_METHOD = """
Accuracy in percent of candidates, on sets that [defaults.md](defaults.md) does not examine the default on. Each set is
halved {rounds} times; each half is trained on, and the other examined. A candidate's rank is the mean of its places, as
in Demšar (JMLR 2006): one set with large differences does not decide. The third column is the mean difference to the
default, "{default}", on the same halves. Its standard error is corrected for halves that overlap (Nadeau and Bengio,
2003). `python benchmarks/choose_rows.py` repeats it (last on {date}, {machine}).
"""
_CHOICE = """
Dropout is given of the features and of the hidden layer, with the probabilities of Srivastava et al. (JMLR 2014,
appendix A), or of Holzmüller et al. (2024). The first advise twice the units for dropout of one half. "The same"
differs from the default by what is named. The mean of 4 is that of the probabilities of networks that are trained
apart. The smooth clip is 3 tanh(z / 3) of standardised features z. Two candidates
are ahead by more than the standard error, both with SiLU. They gain on two sets whose borders are spheres (Hastie's
10.2 and shells); on the mean of the nine others they are behind. The default stays for that reason.
"""


def page(table: dict[str, dict[str, np.ndarray]], rounds: int) -> str:
    """The page: candidates as rows, their rank and mean first."""
    date, machine = datetime.date.today(), platform.machine()
    lines = [
        "# How the network for rows of features was chosen",
        "",
        filled(_METHOD.format(rounds=rounds, default=DEFAULT, date=date, machine=machine)),
        "",
        "| candidate | rank | mean | ahead by | " + " | ".join(SETS) + " |",
        "|---" * (len(SETS) + 4) + "|",
    ]
    for (name, found), rank in zip(table.items(), ranks(table), strict=True):
        cells = [f"{100 * value.mean():.1f}" for value in found.values()]
        mean = 100 * np.mean(list(found.values()))
        gain, uncertain = ahead(found, table[DEFAULT])
        beside = "the default" if name == DEFAULT else f"{100 * gain:+.2f} ± {100 * uncertain:.2f}"
        lines.append(f"| {name} | {rank:.2f} | {mean:.2f} | {beside} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", filled(_CHOICE)]) + "\n"


def main() -> None:
    """Print the means as they come; write the page, if it is complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--candidates", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--rounds", type=int, default=3, help="times that each set is halved (default: 3)")
    options = parser.parse_args()
    table: dict[str, dict[str, np.ndarray]] = {}
    for candidate in options.candidates:
        table[candidate] = {name: accuracies(CANDIDATES[candidate], name, options.rounds) for name in options.sets}
        print(f"{candidate:45} {100 * np.mean(list(table[candidate].values())):6.2f} %", flush=True)
    if options.sets == list(SETS) and options.candidates == list(CANDIDATES):
        PAGE.write_text(page(table, options.rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
