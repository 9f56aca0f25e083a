"""Files in and out: weights (safetensors, PyTorch checkpoints), photos, ONNX.

Each format has a module. Nothing is imported here, so that reading weights does not load an image library.
"""
