#!/usr/bin/python3
# Golden values without positions: plain products, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for causal, offset in ((True, 2), (False, 0)):
        q, k = golden.rows(1, 3, 4), golden.rows(2, 5, 4)
        golden.write(out, "none", causal, offset, 0, q, k, np.stack([q @ k.T] * 2))
