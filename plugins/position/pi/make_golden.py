#!/usr/bin/python3
# Golden values of position interpolation: distances divided by the length factor, pair by pair, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 8, 7
    q, k = golden.rows(21, n, d), golden.rows(22, n, d)
    r, theta = golden.distances(n, n)[..., None], golden.frequencies(d)
    for spec, s, causal, train, context in (
        ("pi{scale=4}", 4.0, True, 0, {}),
        ("pi", 3.5, False, 2, {}),
        ("pi", 5.0, True, 8, {"test_length": 40}),
        ("pi", 1.0, True, 8, {}),
    ):
        golden.write(out, spec, causal, 0, train, q, k, np.stack([golden.turned(q, k, r / s * theta)] * 2), context=context)
