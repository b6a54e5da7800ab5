#!/usr/bin/python3
# Golden values of ssd: the masked, quadratic form of the paper (section 3), in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    q, k, v = golden.inputs(540, 2, 1, 6, 7, 4, 3)
    rng = np.random.default_rng(541)
    delta = golden.rounded(rng.exponential(0.3, size=(1, 7, 1)))
    a_log = golden.rounded(np.log(rng.uniform(1, 16, size=2)))
    s, seen, _ = golden.scores(q, k, True)
    w = np.zeros_like(s)
    for h in range(2):
        for i in range(6):
            for j in range(i + 2):
                decay = np.exp(-np.exp(a_log[h]) * delta[0, j + 1 : i + 2, 0].sum())
                w[h, i, j] = s[h, i, j] * decay * delta[0, j, 0]
    o = np.stack([w[h] @ v[0] for h in range(2)])
    golden.write_output(out, "ssd", True, q, k, v, o, {"delta": delta}, {"a_log": a_log})
