#!/usr/bin/env python3
"""Golden values of projected gradient: projections by sorting, and solutions. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden, least_squares_problem, least_squares_solution

rng = np.random.default_rng(13)
golden = Golden("projected_gradient", "numpy, scipy's SLSQP")


def project(x):
    u = np.sort(x)[::-1]
    tau = (np.cumsum(u) - 1) / np.arange(1, len(u) + 1)
    return np.maximum(x - tau[np.flatnonzero(u > tau)[-1]], 0)


# An identity design has L = 1: one step of any variant whose first L is below 1.05 solves it, so the answer is a projection.
x = rng.normal(size=6).round(6)
for spec in ("projected_gradient", "projected_gradient{variant=plain}", "projected_gradient{step=fixed}"):
    golden.least_squares(spec, np.eye(6), x, np.full(6, 1 / 6), 1000, 1e-13, 1e-7, project(x))
for m, n in ((12, 8), (20, 10)):
    a, b = least_squares_problem(rng, m, n)
    for spec in ("projected_gradient", "projected_gradient{variant=plain}",
                 "projected_gradient{variant=plain, step=fixed}", "projected_gradient{step=fixed}"):
        golden.least_squares(spec, a, b, np.full(n, 1 / n), 200000, 1e-12, 1e-6, least_squares_solution(a, b))
golden.write(__file__)
