#!/usr/bin/python3
# Golden values of KERPLE with given parameters, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, heads = 4, 8, 3
    q, k = golden.rows(57, n, d), golden.rows(58, n, d)
    r = np.abs(golden.distances(n, n))
    p, a = np.array([0.5, 1.75, 0.0]), np.array([0.25, 0.001, 2.5])  # the last p and the second a are below the clamp, 2.5 above
    strength, reach = np.maximum(p, 0.01), np.maximum(a, 0.01)
    log = np.stack([q @ k.T - s * np.log(1 + x * r) for s, x in zip(strength, reach)])
    power = np.stack([q @ k.T - s * r ** min(x, 2.0) for s, x in zip(strength, reach)])
    for spec, scores in (("kerple", log), ("kerple{kernel=power}", power)):
        for causal in (True, False):
            golden.write(out, spec, causal, 0, 0, q, k, scores, parameters=(p, a))
