#!/usr/bin/env python3
"""Golden values of exponentiated gradient: steps of fixed size, and solutions. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden, least_squares_problem, least_squares_solution

rng = np.random.default_rng(12)
golden = Golden("exponentiated_gradient", "numpy, scipy's SLSQP")


def exponentiated(a, b, p, iterations, step):
    for _ in range(iterations):
        p = p * np.exp(-step * (a.T @ (a @ p - b)))
        p = p / p.sum()
    return p


a, b = least_squares_problem(rng, 7, 6)
start = np.array([0.1, 0.2, 0.3, 0.2, 0.15, 0.05])
for steps in (1, 2, 25):
    for step in (0.05, 0.3):
        golden.least_squares(f"exponentiated_gradient{{variant=fixed, step={step}}}", a, b, start, steps, 0.0, 1e-12,
                             exponentiated(a, b, start, steps, step))
a, b = least_squares_problem(rng, 12, 8)
for spec in ("exponentiated_gradient", "exponentiated_gradient{variant=accelerated}"):
    golden.least_squares(spec, a, b, np.full(8, 1 / 8), 100000, 1e-12, 1e-6, least_squares_solution(a, b))
golden.write(__file__)
