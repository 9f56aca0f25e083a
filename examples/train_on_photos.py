"""
Train on your photos
====================

A convolutional network learns from a folder of photos: one sub-folder for each class, named after it. Run it:
``python examples/train_on_photos.py`` (needs scikit-image, and matplotlib for the picture). On the command line,
``fastcnn train FOLDER -o model.safetensors`` does the same with photos of your own.
"""

# %%
# The photos are pieces of three pictures that come with scikit-image. Put the path of your own folder in their place.
import tempfile
from pathlib import Path

from photos import make_photos

import fastcnn as fc

temporary = tempfile.TemporaryDirectory()
folder = make_photos(Path(temporary.name))
classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
print(f"photos of {', '.join(classes)}")

# %%
# The network is that of :doc:`how_classifiers_work`, for photos of 48 x 48 pixels: convolution, ReLU, convolution,
# ReLU, pooling, and a fully connected layer at the end. Photos are resized to ``input_shape``.
model = fc.Sequential(
    fc.Conv2d(3, 16, 3, padding=1, init="he_normal"),
    fc.ReLU(),
    fc.Conv2d(16, 16, 3, padding=1, init="he_normal"),
    fc.ReLU(),
    fc.MaxPool2d(2),
    fc.Conv2d(16, 32, 3, padding=1, init="he_normal"),
    fc.ReLU(),
    fc.MaxPool2d(2),
    fc.Flatten(),
    fc.Linear(32 * 12 * 12, len(classes)),
)
model.input_shape = (3, 48, 48)

# %%
# It trains on four fifths of each class, and tells how well it knows the others. Photos are mirrored, cropped, turned
# and coloured at random.
history = model.fit(
    folder,
    epochs=10,
    validation=0.2,
    optimizer=fc.Adam(0.003),
    schedule=fc.OneCycle(),
    augment=fc.Augment(),
    keep_best=True,
)
print(f"accuracy on photos it did not learn from: {100 * max(history['validation_accuracy']):.0f} %")

# %%
# A saved model knows the classes, and what to do with a photo.
model.save(folder / "model.safetensors")
model = fc.load(folder / "model.safetensors")
for prediction in model.classify(next(folder.glob("*/*.jpg"))):
    print(f"{100 * prediction.probability:5.1f} %  {prediction.label}")

# %%
# The report of an evaluation has precision and recall of each class, the confusion matrix and the worst mistakes.
report = model.evaluate(folder)
print(report)

# %%
# Loss, accuracy and learning rate over the epochs.
curves = history.plot()
