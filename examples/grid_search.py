"""
scikit-learn's grid search
==========================

Which settings are best? scikit-learn's grid search tries them all, each on three parts of the data. Run it:
``python examples/grid_search.py`` (needs scikit-learn, and matplotlib for the picture).
"""

# %%
# A network may be a function of the images' shape and the number of classes. This one has no convolutions, to compare
# with.
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import fastcnn as fc


def perceptron(input_shape: tuple[int, ...], num_classes: int) -> fc.Model:
    """One hidden layer of 64 neurons."""
    channels, height, width = input_shape
    return fc.Sequential(fc.Flatten(), fc.Linear(channels * height * width, 64), fc.ReLU(), fc.Linear(64, num_classes))


# %%
# `fastcnn.ImageClassifier` is an estimator like any other: its settings are parameters of the search.
rows, digits = load_digits(return_X_y=True)
search = GridSearchCV(
    fc.ImageClassifier(input_shape=(1, 8, 8), epochs=5, random_state=0),
    {"network": ["auto", perceptron], "learning_rate": [0.001, 0.01]},
    cv=3,
)
search.fit(rows[:600], digits[:600])

# %%
# The results, best first.
found = zip(search.cv_results_["mean_test_score"], search.cv_results_["params"], strict=True)
results = {
    f"network {getattr(settings['network'], '__name__', settings['network'])}, "
    f"learning rate {settings['learning_rate']}": 100 * score
    for score, settings in sorted(found, key=lambda result: -result[0])
}
for settings, score in results.items():
    print(f"{score:5.1f} %  {settings}")

# %%
# The same as a picture.
figure, panel = plt.subplots(figsize=(7, 2), layout="constrained")
panel.barh(list(results), list(results.values()))
panel.invert_yaxis()
panel.set_xlabel("accuracy in the mean of three folds, in %")
plt.show()
