#!/usr/bin/env python3
"""Golden values of Newton's method: solutions of quadratics and mixtures, and an entropy under moments, whose answer is an
exponential family. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden, least_squares_problem, least_squares_solution, mixture_solution
from scipy.optimize import root

rng = np.random.default_rng(15)
golden = Golden("lagrangian_newton", "numpy, scipy")
for variant in ("interior_point", "active_set"):
    spec = f"lagrangian_newton{{variant={variant}}}"
    a, b = least_squares_problem(rng, 12, 8)
    golden.least_squares(spec, a, b, np.full(8, 1 / 8), 200, 1e-12, 1e-7, least_squares_solution(a, b))
    likelihood = rng.exponential(size=(30, 6)).round(6)
    golden.add(spec, "mixture", {"likelihood": likelihood}, np.full(6, 1 / 6), 200, 1e-12, 1e-6,
               mixture_solution(likelihood))

# p_i = exp(lambda x_i + mu x_i^2) / Z with the given mean and second moment
x = np.linspace(-2, 3, 11)
moments = np.stack([x, x * x])
target = np.array([0.4, 1.1])


def family(y):
    p = np.exp(moments.T @ y)
    return p / p.sum()


y = root(lambda y: moments @ family(y) - target, [0.0, 0.0], tol=1e-15).x
assert np.abs(moments @ family(y) - target).max() < 1e-13
golden.add("lagrangian_newton", "max_entropy_moments", {"moments": moments, "b": target}, np.full(11, 1 / 11), 200, 1e-12,
           1e-7, family(y))
golden.write(__file__)
