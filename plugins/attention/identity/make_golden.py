#!/usr/bin/python3
# Golden values of raw inner products, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, (spec, scale, causal) in enumerate([("identity", 0.5, True), ("identity", 0.5, False), ("identity{scale=3}", 3, True)]):
        q, k, v = golden.inputs(200 + seed, 2, 1, 5, 6, 4, 3)
        s, seen, _ = golden.scores(q, k, causal)
        golden.write(out, spec, causal, q, k, v, np.where(seen, scale * s, 0))
