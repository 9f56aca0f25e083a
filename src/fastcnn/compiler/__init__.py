"""The compiler: from a Graph to a Plan, one pass a file.

    expand ▸ fold ▸ fuse ▸ choose ▸ shuffle ▸ slices ▸ layout ▸ pack ▸ memory ─▶ lower ─▶ Plan

`PASSES` in compile.py is the order of the passes. Each takes a `State` and gives a new one; none changes its argument.
What each operation knows of itself — shapes, layouts, kernels — stands in `fastcnn.ops`; how kernels compute in
`fastcnn.kernels`.
"""
