#!/usr/bin/python3
# Golden values of several bases: the scores of one base at a time, in numpy. The mean of outputs is checked with the mechanisms.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 8, 5
    q, k = golden.rows(66, n, d), golden.rows(67, n, d)
    r = golden.distances(n, n)[..., None]
    for spec, base in (("multi_base{theta_bases=[10000]}", 1e4), ("multi_base{theta_bases=[500000]}", 5e5)):
        golden.write(out, spec, True, 0, 0, q, k, np.stack([golden.turned(q, k, r * golden.frequencies(d, base))] * 2))
