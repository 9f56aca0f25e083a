"""Dropout in training takes the random numbers of Philox by the index of each element, in every layout of memory."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from kernels.graphs_of_nodes import run

import fastcnn as fc
from fastcnn import ops
from fastcnn.graph.ir import Graph, Node

CLOCK = np.array([0x12345678, 0x9ABCDEF0, 77, 3], np.uint32)  # seed and step
LAYER = 5


def philox(counters, key):
    """Philox4x32-10 of Salmon et al. (2011): four words from each of the rows of four words."""
    c = [np.array(word, np.uint64) for word in counters.T]
    k0, k1 = (int(word) for word in key)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> half) ^ c[1] ^ np.uint64(k0), b & low, (a >> half) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack(c, axis=1).astype(np.uint32)


def expected_of(x, ratio):
    """The definition."""
    count = -(-x.size // 4)
    counters = np.zeros((count, 4), np.uint32)
    counters[:, 0], counters[:, 1], counters[:, 2], counters[:, 3] = np.arange(count), CLOCK[3], LAYER, CLOCK[2]
    words = philox(counters, CLOCK[:2]).ravel()[: x.size].reshape(x.shape)
    scale = np.float32(1 / (1 - ratio)) if ratio < 1 else np.float32(0)
    return np.where(words.astype(np.uint64) >= int(ratio * 2**32), x * scale, np.float32(0))


def found_of(x, ratio, behind_convolution):
    """What a graph gives: a convolution before it keeps the values, and chooses a layout of its own."""
    nodes, arrays, name = [], {"x": x, "clock": CLOCK.view(np.float32)}, "x"
    if behind_convolution:
        one = np.zeros((x.shape[1], x.shape[1], 3, 3), np.float32)
        one[range(x.shape[1]), range(x.shape[1]), 1, 1] = 1
        arrays["w"], name = one, "same"
        nodes.append(Node("Conv", "same", ("x", "w"), "same", {**ops.get("Conv").defaults, "pads": (1, 1, 1, 1)}))
    nodes.append(Node("DropoutTraining", "y", (name, "clock"), "y", {"ratio": ratio, "layer": LAYER}))
    return run(Graph(nodes, {key: array.shape for key, array in arrays.items()}, ["y"], {}), arrays)[0]


def test_philox_gives_the_published_words():
    """The first two of the known answers of its authors' library."""
    words = philox(np.zeros((1, 4), np.uint32), (0, 0))
    assert [hex(word) for word in words[0]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    words = philox(np.array([[0xFFFFFFFF] * 4], np.uint32), (0xFFFFFFFF, 0xFFFFFFFF))
    assert [hex(word) for word in words[0]] == ["0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 64), (33, 130), (2, 3, 5, 7), (3, 24, 6, 5), (2, 32, 1, 1)])
def test_dropout_by_the_index_of_elements(shape, ratio, threads):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with fc.num_threads(threads):
        for behind_convolution in {False, len(shape) == 4}:
            found, expected = found_of(x, ratio, behind_convolution), expected_of(x, ratio)
            np.testing.assert_array_equal(found == 0, expected == 0)
            # The convolution may round, as Winograd's algorithm does.
            np.testing.assert_allclose(found, expected, rtol=1e-5 * behind_convolution, atol=1e-6 * behind_convolution)
