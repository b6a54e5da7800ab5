#!/usr/bin/python3
# Golden values of sigmoid attention: scipy's expit.
import os
import sys

import numpy as np
from scipy.special import expit

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("sigmoid", True), ("sigmoid", False), ("sigmoid{length=512}", True)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 4, 3)
        s, seen, n = golden.scores(q, k, causal)
        length = 512 if "length" in spec else n
        golden.write(out, spec, causal, q, k, v, np.where(seen, expit(s * 0.5 - np.log(length)), 0))
