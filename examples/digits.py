"""
Digits
======

Handwritten digits with scikit-learn: a network that fits, predicts and scores like any of its classifiers. Run it:
``python examples/digits.py`` (needs scikit-learn, and matplotlib for the picture). It takes a few seconds, and names
more than 98 % of the digits that it has not seen.
"""

# %%
# The data are 1797 images of 8 x 8 pixels, each flattened to a row of 64 numbers, and the digits they show. A quarter
# is kept for testing.
from time import perf_counter

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastcnn import ImageClassifier

rows, digits = load_digits(return_X_y=True)
train_rows, test_rows, train_digits, test_digits = train_test_split(
    rows, digits, test_size=0.25, stratify=digits, random_state=0
)

# %%
# `fastcnn.ImageClassifier` takes flattened images as they are, if it is told what they were: one channel, 8 x 8 pixels.
classifier = ImageClassifier(input_shape=(1, 8, 8), random_state=0)
start = perf_counter()
classifier.fit(train_rows, train_digits)
print(f"learned {len(train_rows)} digits in {perf_counter() - start:.1f} s")

# %%
# How many of the others does it know?
answers = classifier.predict(test_rows)
print(f"recognises {100 * classifier.score(test_rows, test_digits):.1f} % of {len(test_rows)} others")
print(f"the first ten: {answers[:10]}, are: {test_digits[:10]}")

# %%
# The first ten, with the predicted label of each.
figure, panels = plt.subplots(1, 10, figsize=(9, 1.4), layout="constrained")
for panel, row, answer in zip(panels, test_rows, answers, strict=False):
    panel.imshow(row.reshape(8, 8), cmap="gray_r")
    panel.set_title(answer)
    panel.axis("off")
plt.show()
