#!/usr/bin/python3
# Golden values of XPOS: zeta to the power of the distance, pair by pair, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 8, 9
    q, k = golden.rows(55, n, d), golden.rows(56, n, d)
    r = golden.distances(n, n)[..., None]
    for spec, gamma, base, pairing in (("xpos", 0.4, 512, "half"), ("xpos{scale_base=4, pairing=interleaved}", 0.4, 4, "interleaved"), ("xpos{gamma=1, scale_base=8}", 1.0, 8, "half")):
        zeta = (2 * np.arange(d // 2) / d + gamma) / (1 + gamma)
        scores = golden.turned(q, k, r * golden.frequencies(d), pairing, zeta ** (np.maximum(r, 0) / base))
        golden.write(out, spec, True, 0, 0, q, k, np.stack([scores] * 2))
