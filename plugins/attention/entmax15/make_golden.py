#!/usr/bin/python3
# Golden values of 1.5-entmax: its threshold by Brent's method, and the optimality of the result checked: the weights
# maximise p . x + (4/3) sum_j (p_j - p_j^1.5) on the simplex (scipy's SLSQP).
import os
import sys

import numpy as np
from scipy.optimize import brentq, minimize

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden


def entmax(x):
    z = x / 2
    tau = brentq(lambda t: (np.maximum(0, z - t) ** 2).sum() - 1, z.max() - 1, z.max(), xtol=1e-15)
    w = np.maximum(0, z - tau) ** 2
    value = lambda p: -(p @ x + 4 / 3 * (p - np.maximum(p, 0) ** 1.5).sum())
    best = minimize(value, np.full(len(x), 1 / len(x)), bounds=[(0, 1)] * len(x),
                    constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, method="SLSQP", options={"ftol": 1e-14})
    assert value(w) <= best.fun + 1e-9 and np.abs(best.x - w).max() < 1e-3, (best.x, w)
    return w


with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("entmax15", True), ("entmax15", False), ("entmax15{scale=3}", False)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 9, 4, 3)
        s, seen, _ = golden.scores(q, k, causal)
        s = s * (3 if "scale" in spec else 0.5)
        w = np.zeros_like(s)
        for h in range(s.shape[0]):
            for r in range(s.shape[1]):
                w[h, r, seen[r]] = entmax(s[h, r, seen[r]])
        golden.write(out, spec, causal, q, k, v, w)
