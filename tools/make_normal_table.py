"""Make csrc/tiles/normal_table.h: the share of a normal variable below -t, by polynomials of segments.

python tools/make_normal_table.py > csrc/tiles/normal_table.h
"""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np

SEGMENTS, WIDTH, DEGREE = 32, 0.25, 6


def coefficients() -> np.ndarray:
    """The coefficients of each power, for each segment, (DEGREE + 1, SEGMENTS): those of the least relative error."""
    count = 60
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    table = np.empty((DEGREE + 1, SEGMENTS))
    for i in range(SEGMENTS):
        shares = np.array([erfc((WIDTH * i + WIDTH / 2 * u) / sqrt(2)) / 2 for u in nodes])
        powers, weights = np.vander(nodes, DEGREE + 1, increasing=True) / shares[:, None], np.ones(count)
        for _ in range(30):  # Lawson's algorithm: weights grow where errors are large
            root = np.sqrt(weights)
            found = np.linalg.lstsq(powers * root[:, None], root, rcond=None)[0]
            weights = weights * np.abs(powers @ found - 1)
            weights /= weights.sum()
        table[:, i] = found / (WIDTH / 2) ** np.arange(DEGREE + 1)
    return table


def main() -> None:
    """Print the header."""
    print(
        "/* normal_table.h: made by tools/make_normal_table.py. Row k holds the coefficients of u^k: for t = i / 4 + u"
    )
    print(" * with |u| <= 1/8, the sum of table[k][i] * u^k is the share of a normal variable below -t. */")
    print("/* clang-format off */")
    print(f"static const float FC_FN(normal_table)[{DEGREE + 1}][{SEGMENTS}] = {{")
    for row in coefficients():
        numbers = [
            f"{np.float32(value):.9g}f"
            if "." in f"{np.float32(value):.9g}" or "e" in f"{np.float32(value):.9g}"
            else f"{value:.1f}f"
            for value in row
        ]
        print("    {")
        for first in range(0, SEGMENTS, 6):
            print("        " + ", ".join(numbers[first : first + 6]) + ",")
        print("    },")
    print("};")


if __name__ == "__main__":
    main()
