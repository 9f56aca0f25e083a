"""
How an image classifier works
=============================

Every sentence below is followed by the code that does it. Run it: ``python examples/how_classifiers_work.py``. The
pictures need matplotlib.
"""

# %%
# An image is a block of numbers: three colours, rows and columns, each number from 0 to 255. This one is 32 pixels high
# and wide, dark blue with one yellow vertical line in column 16.
import matplotlib.pyplot as plt
import numpy as np

from fastcnn import functional as fc
from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, manual_seed
from fastcnn.model import Model
from fastcnn.sequential import Sequential


def make_image() -> np.ndarray:
    """Colour (red, green, blue), row, column."""
    image = np.zeros((3, 32, 32), np.float32)
    image[2] = 60  # some blue everywhere
    image[:, :, 16] = np.array([255, 255, 0], np.float32)[:, None]  # yellow = red + green
    return image


image = make_image()
print(f"The image: {image.shape[1]} x {image.shape[2]} pixels of {image.shape[0]} colours,")
print(f"  {image.size} numbers from {image.min():.0f} to {image.max():.0f}.")

# %%
# Convolution
# -----------
# A convolution slides a small filter over the image: at each place it multiplies and adds up.
#
# This filter is written by hand. Its middle column counts for, and its neighbours count against. So the sum is large
# where a vertical line passes, and zero on an even surface.


def find_vertical_lines(image: np.ndarray) -> np.ndarray:
    """The sum at each place, (rows, columns): a 3x3 filter loses one on each side."""
    vertical_line = np.array(
        [
            [-1, 2, -1],
            [-1, 2, -1],
            [-1, 2, -1],
        ],
        np.float32,
    )
    brightness = image.mean(axis=0)
    batch = brightness[None, None]  # conv2d wants (images, colours, rows, columns)
    filters = vertical_line[None, None]  # and (filters, colours, rows, columns)
    return fc.conv2d(batch, filters)[0, 0]


found = find_vertical_lines(image)
print(f"A filter for vertical lines, around column 16 of row 10: {found[10, 13:18]}")
print("  The line stands out; the places beside it are negative, the rest is 0.")

# %%
# ReLU
# ----
# ReLU leaves what is positive as it is, and turns what is negative into zero. After a filter this means: keep the
# places where the pattern was found, forget the others.


def keep_positive(values: np.ndarray) -> np.ndarray:
    """Values where they are positive, else 0."""
    return fc.relu(values)


print(f"ReLU makes the negative ones 0: {keep_positive(found)[10, 13:18]}")

# %%
# Pooling
# -------
# Max pooling keeps the largest number of each 2x2 square: 75 % less data, and the strongest finds. A 4x4 matrix has
# four of those squares, so sixteen numbers become four.


def shrink(matrix: np.ndarray) -> np.ndarray:
    """The largest number of each 2x2 square."""
    return fc.max_pool2d(matrix[None, None], kernel_size=2)[0, 0]


matrix = np.array([[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]], np.float32)
small = shrink(matrix)
print(f"2x2 max pooling turns\n{matrix}\ninto\n{small}")
print(f"  The top left square's largest number is {small[0, 0]:.0f}, and")
print(f"  {small.size} numbers are left of {matrix.size}: {1 - small.size / matrix.size:.0%} less.")

# %%
# The network
# -----------
# A convolutional network is these steps in a row. Nobody writes its filters: training finds them.
#
# Early convolutions look for edges and colours, later ones for what is made of them. Pooling in between makes the
# picture smaller, and the fully connected layer at the end weighs all that was found.
CLASSES = ["cat", "dog", "horse"]


def build_network() -> Model:
    """The example network, untrained."""
    model = Sequential(  #                       numbers after the step, for a 3x32x32 image
        Conv2d(3, 16, 3, padding=1),  #          16 x 32 x 32
        ReLU(),
        Conv2d(16, 16, 3, padding=1),  #         16 x 32 x 32
        ReLU(),
        MaxPool2d(2),  #                         16 x 16 x 16
        ReLU(),
        Conv2d(16, 32, 3, padding=1),  #         32 x 16 x 16
        ReLU(),
        MaxPool2d(2),  #                         32 x 8 x 8
        Flatten(),  #                            2048
        Linear(32 * 8 * 8, len(CLASSES)),  #     3: one score per class
    )
    model.classes = CLASSES
    model.input_shape = (3, 32, 32)
    return model


manual_seed(0)
network = build_network()
print(network)

# %%
# The answer
# ----------
# The output is a class, or the probability of each class: softmax turns the scores into these.


def ask(model: Model, image: np.ndarray) -> tuple[str, dict[str, float]]:
    """The most probable class, and the probability of each."""
    batch = image[None] / 255  # networks like small numbers
    label = model.predict(batch)[0]
    probabilities = model.predict_proba(batch)[0]
    return str(label), {name: float(p) for name, p in zip(CLASSES, probabilities, strict=True)}


label, probabilities = ask(network, image)
shares = ", ".join(f"{name} {share:.0%}" for name, share in probabilities.items())
print(f"Its answer as a class: {label}; as probabilities: {shares}.")
print("(It is not trained, so it guesses. Training would change the numbers in its filters.)")

# %%
# The steps as pictures
# ---------------------
# The image, what the filter finds in it, what ReLU keeps, and what pooling keeps of that.
steps = {
    "image": image.transpose(1, 2, 0) / 255,
    "convolution": found,
    "ReLU": keep_positive(found),
    "max pooling": shrink(keep_positive(found)),
}
figure, panels = plt.subplots(1, len(steps), figsize=(9, 2.6), layout="constrained")
for panel, (title, values) in zip(panels, steps.items(), strict=True):
    panel.imshow(values, cmap="gray")
    panel.set(title=title, xticks=[], yticks=[])
plt.show()
