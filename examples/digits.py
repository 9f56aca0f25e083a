"""Handwritten digits with scikit-learn: a network that fits, predicts and scores like any of its classifiers.

Run it: ``python examples/digits.py`` (needs scikit-learn). It takes a few seconds, and names more than 98 % of the
digits that it has not seen.
"""

from __future__ import annotations

from time import perf_counter

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastcnn import ImageClassifier


def main() -> float:
    """Train, test, and return the share of digits that are recognised."""
    # 1797 images of 8 x 8 pixels, each flattened to a row of 64 numbers, and the digits they show.
    rows, digits = load_digits(return_X_y=True)
    train_rows, test_rows, train_digits, test_digits = train_test_split(
        rows, digits, test_size=0.25, stratify=digits, random_state=0
    )

    classifier = ImageClassifier(input_shape=(1, 8, 8), random_state=0)  # one channel, 8 x 8 pixels
    start = perf_counter()
    classifier.fit(train_rows, train_digits)
    seconds = perf_counter() - start

    accuracy = classifier.score(test_rows, test_digits)
    print(f"learned {len(train_rows)} digits in {seconds:.1f} s")
    print(f"recognises {100 * accuracy:.1f} % of {len(test_rows)} others")
    print(f"the first ten: {classifier.predict(test_rows[:10])}, are: {test_digits[:10]}")
    return accuracy


if __name__ == "__main__":
    main()
