"""A forked child and its parent keep photos in one file, and neither writes over the other's."""

from __future__ import annotations

import os

import numpy as np

from fastcnn.io._cache import PhotoCache


def photo(value):
    return np.full((4, 5, 3), value, np.uint8)


def test_a_child_does_not_write_into_the_file_of_its_parent():
    cache = PhotoCache(memory=0)
    assert (cache.get("before", lambda: photo(1)) == 1).all()
    parent_is_done, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(parent_is_done, 1)
        before, theirs = cache.get("before", lambda: photo(9)), cache.get("theirs", lambda: photo(2))
        os._exit(0 if (before == 1).all() and (theirs == 2).all() else 1)
    assert (cache.get("ours", lambda: photo(3)) == 3).all()
    os.write(tell, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for end in (parent_is_done, tell):
        os.close(end)
    assert (cache.get("ours", lambda: photo(9)) == 3).all()  # from the file
