"""Files in and out: weights (safetensors, PyTorch checkpoints), photos, ONNX.

One module a format; nothing is imported here, so that reading weights does not load an image library.
"""
