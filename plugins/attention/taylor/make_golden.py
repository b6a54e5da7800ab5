#!/usr/bin/python3
# Golden values of taylor: the polynomial 1 + a + a^2 / 2 of the scores, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, causal in enumerate([True, False]):
        q, k, v = golden.inputs(640 + seed, 2, 1, 5, 6, 4, 3)
        s, seen, _ = golden.scores(q, k, causal)
        a = s / 2
        w = np.where(seen, 1 + a + a * a / 2, 0)
        golden.write(out, "taylor", causal, q, k, v, w / (w.sum(-1, keepdims=True) + 1e-6))
