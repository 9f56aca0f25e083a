"""Builds two extensions on fastcnn: edges.pyx in Cython, and pool.cpp in C++ with threads of its own."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastcnn

include = [fastcnn.get_include()]
setup(
    ext_modules=[
        *cythonize(
            [Extension("downstream.edges", ["src/downstream/edges.pyx"], include_dirs=include)], language_level=3
        ),
        Extension(
            "downstream.pool", ["src/downstream/pool.cpp"], include_dirs=include, extra_compile_args=["-std=c++17"]
        ),
    ]
)
