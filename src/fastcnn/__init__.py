"""fastcnn: train and run image classifiers on a CPU, from NumPy."""
