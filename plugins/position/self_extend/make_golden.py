#!/usr/bin/python3
# Golden values of Self-Extend: every pair with its own distance, no bands, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 6, 14
    q, k = golden.rows(39, n, d), golden.rows(40, n, d)
    i, j, theta = np.arange(n)[:, None], np.arange(n)[None, :], golden.frequencies(d)
    for spec, w, group, shift, causal, train in (
        ("self_extend{window=5, group=3}", 5, 3, 5 - 5 // 3, True, 0),
        ("self_extend{window=5, group=3, shift=real}", 5, 3, 5 - 5 / 3, True, 0),
        ("self_extend{window=4, group=2}", 4, 2, 4 - 2, False, 0),
        ("self_extend", 3, 8, 3, True, 6),
    ):
        far = i // group - j // group + np.sign(i - j) * shift
        r = np.where(np.abs(i - j) < w, i - j, far)
        golden.write(out, spec, causal, 0, train, q, k, np.stack([golden.turned(q, k, r[..., None] * theta)] * 2))
