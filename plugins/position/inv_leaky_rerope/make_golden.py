#!/usr/bin/python3
# Golden values of InvLeaky ReRoPE: stretched distances in training, plain ones after it, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, w = 6, 9, 2
    q, k = golden.rows(37, n, d), golden.rows(38, n, d)
    r, theta = golden.distances(n, n), golden.frequencies(d)
    far = np.where(np.abs(r) < w, r, np.sign(r) * (w + (np.abs(r) - w) * 16))
    for causal in (True, False):
        golden.write(out, "inv_leaky_rerope", causal, 0, 8, q, k, np.stack([golden.turned(q, k, r[..., None] * theta)] * 2))
        golden.write(out, "inv_leaky_rerope", causal, 0, 8, q, k, np.stack([golden.turned(q, k, far[..., None] * theta)] * 2), context={"training": 1})
