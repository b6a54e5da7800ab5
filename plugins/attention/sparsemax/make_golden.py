#!/usr/bin/python3
# Golden values of sparsemax: the projection onto the simplex as a quadratic program, solved by scipy's SLSQP and polished
# by bisection of the threshold: neither sorts nor uses Newton's method as the plugin does.
import os
import sys

import numpy as np
from scipy.optimize import brentq, minimize

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden


def project(x):
    tau = brentq(lambda t: np.maximum(0, x - t).sum() - 1, x.max() - 1, x.max(), xtol=1e-15)
    w = np.maximum(0, x - tau)
    qp = minimize(lambda p: 0.5 * ((p - x) ** 2).sum(), np.full(len(x), 1 / len(x)), jac=lambda p: p - x,
                  bounds=[(0, 1)] * len(x), constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, method="SLSQP",
                  options={"ftol": 1e-14})
    assert np.abs(qp.x - w).max() < 1e-5, (qp.x, w)
    return w


with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("sparsemax", True), ("sparsemax", False), ("sparsemax{scale=3}", False)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 9, 4, 3)
        s, seen, _ = golden.scores(q, k, causal)
        s = s * (3 if "scale" in spec else 0.5)
        w = np.zeros_like(s)
        for h in range(s.shape[0]):
            for r in range(s.shape[1]):
                w[h, r, seen[r]] = project(s[h, r, seen[r]])
        golden.write(out, spec, causal, q, k, v, w)
