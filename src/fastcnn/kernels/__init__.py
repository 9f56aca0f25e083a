"""Kernels: Cython loops over the vector tiles of csrc/, each a step of a plan.

Every kernel is SPMD: a call gets the number of a part of the output, and computes that part. Only `_program` shares
parts among threads. Only `_cpu` knows the number of threads and the instruction set. `fastcnn.compiler` decides on
shapes, layouts and memory. Nothing here validates what users pass.

A plain tensor is NCHW. A blocked one is [N][C/VL][H][W][VL], with VL the floats of a vector.
"""
