"""Which settings are best? scikit-learn's grid search tries them all, each on three parts of the data.

Run it: ``python examples/grid_search.py`` (needs scikit-learn).
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import fastcnn as fc


def perceptron(input_shape: tuple[int, ...], num_classes: int) -> fc.Model:
    """A network without convolutions, to compare with."""
    channels, height, width = input_shape
    return fc.Sequential(fc.Flatten(), fc.Linear(channels * height * width, 64), fc.ReLU(), fc.Linear(64, num_classes))


def main() -> GridSearchCV:
    """Search, print the results, best first, and return the search."""
    rows, digits = load_digits(return_X_y=True)
    search = GridSearchCV(
        fc.ImageClassifier(input_shape=(1, 8, 8), epochs=5, random_state=0),
        {"network": ["auto", perceptron], "learning_rate": [0.001, 0.01]},
        cv=3,
    )
    search.fit(rows[:600], digits[:600])
    results = zip(search.cv_results_["mean_test_score"], search.cv_results_["params"], strict=True)
    for score, settings in sorted(results, key=lambda result: -result[0]):
        name = getattr(settings["network"], "__name__", settings["network"])
        print(f"{100 * score:5.1f} %  network {name}, learning rate {settings['learning_rate']}")
    return search


if __name__ == "__main__":
    main()
