"""The graph: what a network computes, in which order, and nothing of how. Operations and attributes are ONNX's."""
