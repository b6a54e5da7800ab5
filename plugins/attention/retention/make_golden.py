#!/usr/bin/python3
# Golden values of retention: the parallel form of the paper (equation 5) in numpy, without rotation.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, spec in enumerate(["retention", "retention{decay=0.75}", "retention{decay=1}"]):
        q, k, v = golden.inputs(400 + seed, 3, 1, 5, 6, 4, 3)
        s, seen, _ = golden.scores(q, k, True)
        gamma = {0: [31 / 32, 63 / 64, 127 / 128], 1: [0.75] * 3, 2: [1.0] * 3}[seed]
        distance = np.arange(5)[:, None] + 1 - np.arange(6)[None, :]
        decay = np.stack([np.where(seen, g ** np.maximum(distance, 0), 0) for g in gamma])
        golden.write(out, spec, True, q, k, v, s / 2 * decay)
