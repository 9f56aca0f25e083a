"""What another package does with fastcnn's C API."""
