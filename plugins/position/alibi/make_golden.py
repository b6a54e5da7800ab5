#!/usr/bin/python3
# Golden values of ALiBi: slopes by the recipe of the paper's code (get_slopes), in numpy.
import math
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden


def slopes(n):
    if math.log2(n).is_integer():
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]
    closest = 2 ** math.floor(math.log2(n))
    return slopes(closest) + slopes(2 * closest)[0::2][: n - closest]


with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for heads, causal, offset in ((4, True, 2), (6, False, 0)):
        q, k = golden.rows(9, 3, 4), golden.rows(10, 5, 4)
        r = np.arange(3)[:, None] + offset - np.arange(5)[None, :]
        s = np.stack([q @ k.T - m * np.abs(r) for m in slopes(heads)])
        golden.write(out, "alibi", causal, offset, 0, q, k, s)
