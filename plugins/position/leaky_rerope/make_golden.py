#!/usr/bin/python3
# Golden values of Leaky ReRoPE: every pair with its own distance, no bands, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 6, 11
    q, k = golden.rows(35, n, d), golden.rows(36, n, d)
    r, theta = golden.distances(n, n), golden.frequencies(d)
    for spec, w, leak, causal, train in (
        ("leaky_rerope{window=3, leak=4}", 3, 4.0, True, 0),
        ("leaky_rerope{window=4, leak=2.5}", 4, 2.5, False, 0),
        ("leaky_rerope{leak=0}", 2, (n - 1 - 2) / (8 - 1 - 2), True, 8),
        ("leaky_rerope", 2, 16.0, True, 8),
    ):
        far = np.where(np.abs(r) < w, r, np.sign(r) * (w + (np.abs(r) - w) / leak))
        golden.write(out, spec, causal, 0, train, q, k, np.stack([golden.turned(q, k, far[..., None] * theta)] * 2))
