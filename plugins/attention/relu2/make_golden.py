#!/usr/bin/python3
# Golden values of squared ReLU attention: the three formulas at the top of relu2.cpp in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, (scaling, causal) in enumerate([("su_ns", True), ("su_ns", False), ("gau_n2", True), ("gau_n2", False),
                                              ("normalised", True), ("normalised", False)]):
        q, k, v = golden.inputs(100 + seed, 2, 1, 5, 6, 4, 3)
        s, seen, n = golden.scores(q, k, causal)
        positive = np.where(seen, np.maximum(s, 0), 0)
        if scaling == "gau_n2":
            w = (positive / n) ** 2
        elif scaling == "su_ns":
            w = positive**2 / (n * 4)
        else:
            w = positive**2 / 4
            w = w / (w.sum(-1, keepdims=True) + 1e-6)
        golden.write(out, f"relu2{{scaling={scaling}}}", causal, q, k, v, w)
