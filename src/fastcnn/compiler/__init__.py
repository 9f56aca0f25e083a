"""The compiler turns a Graph into a Plan, one pass a file.

    expand ▸ fold ▸ fuse ▸ choose ▸ shuffle ▸ slices ▸ layout ▸ pack ▸ memory ─▶ lower ─▶ Plan

`PASSES` in compile.py is the order of the passes. Each takes a `State` and gives a new one; none changes its argument.
`fastcnn.ops` tells the shapes, layouts and kernels of each operation. `fastcnn.kernels` holds the kernels.
"""
