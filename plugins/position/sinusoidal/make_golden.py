#!/usr/bin/python3
# Golden values of the sinusoidal encoding, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for spec, base in (("sinusoidal", 1e4), ("sinusoidal{theta_base=100}", 100)):
        for first in (0, 7):
            t, width = np.arange(first, first + 5)[:, None], 12
            angle = t / base ** (2 * np.arange(width // 2) / width)
            added = np.empty((5, width))
            added[:, 0::2], added[:, 1::2] = np.sin(angle), np.cos(angle)
            golden.write_embedding(out, spec, 3, 4, first, added)
