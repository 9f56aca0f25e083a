"""Kernels: Cython loops over the vector tiles of csrc/, each a step of a plan.

Every kernel is SPMD: all threads call it with their number, and each computes its own part of the output. Only
`_executor` opens a parallel region; only `_cpu` knows how many threads and which instruction set. Shapes, layouts
and memory are decided in `fastcnn.compiler`; nothing here validates what users pass.
"""
