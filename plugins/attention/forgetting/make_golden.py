#!/usr/bin/python3
# Golden values of forgetting attention: the sum over t = j + 1 .. i term by term.
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed in range(2):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 4, 3)
        log_f = golden.rounded(-np.abs(np.random.default_rng(100 + seed).normal(size=(2, 6, 1))))
        s, seen, _ = golden.scores(q, k, True)
        s = s * 0.5
        for h in range(2):
            for r in range(5):
                for j in range(6):
                    s[h, r, j] += sum(log_f[h, t, 0] for t in range(j + 1, r + 1 + 1))  # query r stands at r + 1
        w = softmax(np.where(seen, s, -np.inf), axis=-1)
        golden.write_output(out, "forgetting", True, q, k, v, w @ v[0], extra={"log_forget": log_f})
