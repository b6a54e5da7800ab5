#!/usr/bin/python3
# Golden values of LM-Infinite: mask and capped distances by their definition, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 6, 12
    q, k = golden.rows(43, n, d), golden.rows(44, n, d)
    r, j, theta = golden.distances(n, n), np.arange(n)[None, :], golden.frequencies(d)
    for spec, n_global, local, cap, code, causal, train in (
        ("lambda_mask{n_global=2, n_local=4}", 2, 4, 4, False, True, 0),
        ("lambda_mask{n_global=3, n_local=3, distance_cap=6}", 3, 3, 6, False, True, 0),
        ("lambda_mask{n_global=3, n_local=3, distance_cap=6, distance=code}", 3, 3, 6, True, True, 0),
        ("lambda_mask{n_global=2}", 2, 5, 5, False, False, 5),
    ):
        near = local if code else cap
        capped = np.where(np.abs(r) < near, r, np.sign(r) * cap)
        scores = golden.turned(q, k, capped[..., None] * theta)
        golden.write(out, spec, causal, 0, train, q, k, np.stack([np.where((j < n_global) | (np.abs(r) < local), scores, np.nan)] * 2))
