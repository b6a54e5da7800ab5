#!/usr/bin/python3
# Golden values of gla: the recurrence of the paper, token after token, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, strength in enumerate([0.1, 30.0]):  # mild gates, and some that forget nearly everything in one step
        q, k, v = golden.inputs(500 + seed, 2, 1, 6, 7, 4, 3)
        rng = np.random.default_rng(510 + seed)
        log_gate = golden.rounded(-strength * rng.exponential(size=(1, 7, 4)))
        o = np.zeros((2, 6, 3))
        for h in range(2):
            state = np.zeros((4, 3))
            for t in range(7):
                state = np.exp(log_gate[0, t])[:, None] * state + np.outer(k[0, t], v[0, t])
                if t >= 1:
                    o[h, t - 1] = q[h, t - 1] @ state / 2
        golden.write_output(out, "gla", True, q, k, v, o, {"log_gate": log_gate})
