#!/usr/bin/python3
# Golden values of windows: hidden pairs by their definition, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 4, 9
    q, k = golden.rows(41, n, d), golden.rows(42, n, d)
    r, j = golden.distances(n, n), np.arange(n)[None, :]
    plain = q @ k.T
    rope = golden.turned(q, k, r[..., None] * golden.frequencies(d))
    for spec, base, seen, causal, train in (
        ("window{window=3}", plain, np.abs(r) < 3, True, 0),
        ("window", plain, np.abs(r) < 4, False, 4),
        ("window{window=2, n_sinks=2, of=rope}", rope, (np.abs(r) < 2) | (j < 2), True, 0),
        ("window{window=3, dilation=2}", plain, (np.abs(r) < 6) & (r % 2 == 0), True, 0),
    ):
        golden.write(out, spec, causal, 0, train, q, k, np.stack([np.where(seen, base, np.nan)] * 2))
