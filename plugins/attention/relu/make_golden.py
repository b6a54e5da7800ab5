#!/usr/bin/python3
# Golden values of relu attention.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, (spec, causal) in enumerate([("relu", True), ("relu", False), ("relu{alpha=0.5}", True)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 4, 3)
        s, seen, n = golden.scores(q, k, causal)
        golden.write(out, spec, causal, q, k, v,
                     np.where(seen, np.maximum(0, s * 0.5), 0) / n ** (0.5 if "alpha" in spec else 1))
