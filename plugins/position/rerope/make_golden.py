#!/usr/bin/python3
# Golden values of ReRoPE: every pair with its own rectified distance, no bands, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 6, 9
    for spec, w, causal, train_length in (("rerope{window=3}", 3, True, 0), ("rerope{window=4}", 4, False, 0), ("rerope", 2, True, 8)):
        q, k = golden.rows(7, n, d), golden.rows(8, n, d)
        theta = 1e4 ** (-2 * np.arange(d // 2) / d)
        s = np.empty((n, n))
        for i in range(n):
            for j in range(n):
                r = np.clip(i - j, -w, w)
                s[i, j] = golden.rotate(q[i : i + 1], r * theta[None, :])[0] @ k[j]
        golden.write(out, spec, causal, 0, train_length, q, k, np.stack([s] * 2))
