"""
A network in 8 bits
===================

A trained network with integers in place of float32 numbers: a quarter of the size, faster, and hardly less exact. Run
it: ``python examples/quantize.py`` (needs scikit-learn, and matplotlib for the picture). It takes some seconds.
"""

# %%
# A network that tells handwritten digits apart. A quarter of them is kept for testing.
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastcnn as fc

images, digits = load_digits(return_X_y=True)
images = images.reshape(-1, 1, 8, 8).astype(np.float32) / 16
x, test_x, y, test_y = train_test_split(images, digits, test_size=0.25, stratify=digits, random_state=0)
with fc.layers.seeded(0):
    model = fc.Sequential(
        *(fc.Conv2d(1, 32, 3, padding=1), fc.BatchNorm2d(32), fc.ReLU()),
        *(fc.Conv2d(32, 32, 3, padding=1), fc.BatchNorm2d(32), fc.ReLU()),
        *(fc.MaxPool2d(2), fc.Flatten(), fc.Linear(512, 10)),
    )
model.input_shape = (1, 8, 8)
model.fit(x, y, epochs=12, optimizer=fc.Adam(0.002), progress=False)

# %%
# Some typical images tell which ranges the values of each layer have. That is all that quantising needs: 8 bits stand
# for the numbers of each range. With labelled images the report tells what is lost.
small = model.quantize(x[:200], validation=(test_x, test_y))
print(small.quantization)

# %%
# It predicts, and is saved, as any other model.
print(f"first digits: {small.predict(test_x[:10])}, are: {test_y[:10]}")
with tempfile.TemporaryDirectory() as folder:
    for name, network in (("float32", model), ("int8", small), ("bfloat16", model.astype("bfloat16"))):
        path = Path(folder, f"{name}.safetensors")
        network.save(path)
        print(f"{name:8}  {path.stat().st_size / 1000:6.1f} kB")

# %%
# Where does it hurt? Ranges may be bad. Here one image has a pixel that is 300 times as bright as it should be. For all
# others few steps are left.
bad = x[:200].copy()
bad[0, 0, 0, 0] = 300
coarse = model.quantize(bad, validation=(test_x, test_y))
report = coarse.quantization
print(f"accuracy {100 * report.accuracy:.1f} %, in float32 {100 * report.float_accuracy:.1f} %")

# %%
# Three ways out. Other methods leave far values out. ``max_drop`` puts the layers that are hurt most back to float32.
# And a quantised network learns on: its weights get used to the steps.
better = model.quantize(bad, method="percentile", validation=(test_x, test_y))
print(f"method='percentile': {100 * better.quantization.accuracy:.1f} %")
mixed = model.quantize(bad, validation=(test_x, test_y), max_drop=0.5)
print(f"max_drop=0.5: {100 * mixed.quantization.accuracy:.1f} %, float32 again: {mixed.quantization.float_layers}")
coarse.fit(x, y, epochs=5, optimizer=fc.Adam(0.001), progress=False)
print(f"after 5 epochs: {100 * coarse.evaluate(test_x, test_y).accuracy:.1f} %")

# %%
# Signal to noise of each layer, and what its range clips.
figure = better.quantization.plot()
