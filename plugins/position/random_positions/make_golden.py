#!/usr/bin/python3
# Golden values of random positions outside training: plain rotation, in numpy. What is drawn in training is a test of its own.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 8, 5
    q, k = golden.rows(64, n, d), golden.rows(65, n, d)
    r = golden.distances(n, n)[..., None]
    for causal in (True, False):
        golden.write(out, "random_positions", causal, 0, 0, q, k, np.stack([golden.turned(q, k, r * golden.frequencies(d))] * 2))
    golden.write(out, "random_positions{of=rope{theta_base=100}}", True, 0, 0, q, k, np.stack([golden.turned(q, k, r * golden.frequencies(d, 100))] * 2))
