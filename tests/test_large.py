"""Arrays whose last elements lie beyond 2^31 bytes, and (nightly) beyond 2^31 elements: their indices have 64 bits.

Pages that nobody writes to take no memory: an array of zeros, with a marker at its far end.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LARGE = """
import resource, sys
import numpy as np
from fastcnn import functional as F

operation, rows = sys.argv[1], int(sys.argv[2])
x = np.zeros((1, 16, rows, 1 << 13), np.float32)
x[0, -1, -1, -1] = 7
if operation == "relu":
    result = F.relu(x, out=x)[0, -1, -1, -2:]
elif operation == "max_pool2d":  # of the four corners
    result = F.max_pool2d(x, 1, stride=(rows - 1, (1 << 13) - 1))[0, -1, -1]
else:
    result = F.global_avg_pool2d(x)[0, -2:, 0, 0] * np.float32(rows << 13)
np.testing.assert_allclose(result, [0, 7], rtol=1e-6)
assert x.nbytes > 1 << 31
print(x.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


@pytest.mark.parametrize("operation", ["relu", "max_pool2d", "global_avg_pool2d"])
def test_indices_have_64_bits(operation, budget):
    rows = budget((1 << 12) + 1, (1 << 14) + 1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LARGE, operation, str(rows)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stderr
    elements, memory = map(int, result.stdout.split())
    assert elements > budget(1 << 29, 1 << 31) and memory < budget(5 << 30, 20 << 30)
