"""Kernels: Cython loops over the vector tiles of csrc/, each a step of a plan.

Every kernel is SPMD: it is called with the number of a part of the output, and computes that part. Only `_program`
shares parts among threads; only `_cpu` knows how many threads and which instruction set. Shapes, layouts and memory are
decided in `fastcnn.compiler`; nothing here validates what users pass.
"""
