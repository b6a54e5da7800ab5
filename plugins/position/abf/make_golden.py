#!/usr/bin/python3
# Golden values of rotary embedding with another base, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 8, 5
    q, k = golden.rows(27, n, d), golden.rows(28, n, d)
    r = golden.distances(n, n)[..., None]
    for spec, base, pairing in (("abf", 5e5, "half"), ("abf{theta_base=1e6, pairing=interleaved}", 1e6, "interleaved")):
        golden.write(out, spec, True, 0, 0, q, k, np.stack([golden.turned(q, k, r * golden.frequencies(d, base), pairing)] * 2))
