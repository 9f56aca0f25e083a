"""The compiler: from a Graph to a Plan, one pass a file.

    fold ▸ fuse ▸ choose ▸ layout ▸ memory ─▶ Plan

Every pass takes a graph and gives a new one (or what it decided about it); none changes its argument. What each
operation knows of itself — shapes, layouts, kernels — stands in `fastcnn.ops`; how kernels compute in
`fastcnn.kernels`.
"""
