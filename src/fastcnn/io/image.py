"""Public names for photos: find files, read pixels, and preprocess them to inputs of a network."""

from fastcnn.io._find import find_images, is_image
from fastcnn.io._load import load_image
from fastcnn.io.preprocess import Preprocess, images_to_batch

__all__ = ["Preprocess", "find_images", "images_to_batch", "is_image", "load_image"]
