#!/usr/bin/env python3
"""Golden values of exponentiated gradient: steps of fixed size, and a solution.

Independent of the C++ code: numpy for the steps, scipy's SLSQP for the solutions, polished by the linear system on the
support that it finds. Writes golden.csv beside this file:
  spec; A row-major; b; start; iterations; gap tolerance; error bound; p
"""
import pathlib
import numpy as np
from scipy.optimize import minimize

rng = np.random.default_rng(12)


def problem(m, n):
    return rng.normal(size=(m, n)).round(6), rng.normal(size=m).round(6)



def exponentiated(a, b, p, iterations, step):
    for _ in range(iterations):
        p = p * np.exp(-step * (a.T @ (a @ p - b)))
        p = p / p.sum()
    return p


def solution(a, b):
    n = a.shape[1]
    found = minimize(lambda p: 0.5 * np.sum((a @ p - b) ** 2), np.full(n, 1 / n), jac=lambda p: a.T @ (a @ p - b),
                     bounds=[(0, 1)] * n, constraints={"type": "eq", "fun": lambda p: p.sum() - 1,
                                                       "jac": lambda p: np.ones(n)},
                     method="SLSQP", options={"ftol": 1e-15, "maxiter": 1000})
    used = np.flatnonzero(found.x > 1e-6)
    k = len(used)
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = a[:, used].T @ a[:, used]
    system[k, :k] = system[:k, k] = 1
    p = np.zeros(n)
    p[used] = np.linalg.solve(system, np.append(a[:, used].T @ b, 1))[:k]
    g = a.T @ (a @ p - b)
    assert p.min() >= 0 and p @ g - g.min() < 1e-12
    return p


lines = ["# 1/2 |A p - b|^2 on the simplex; numbers by make_golden.py (numpy, scipy)",
         "# spec; A row-major; b; start; iterations; gap tolerance; error bound; p"]


def text(values):
    return " ".join(repr(float(v)) for v in np.ravel(values))


def add(spec, a, b, start, iterations, tolerance, bound, p):
    lines.append(";".join([spec, text(a), text(b), text(start), str(iterations), repr(tolerance), repr(bound), text(p)]))


a, b = problem(7, 6)
start = np.array([0.1, 0.2, 0.3, 0.2, 0.15, 0.05])
for steps in (1, 2, 25):
    for step in (0.05, 0.3):
        add(f"exponentiated_gradient{{variant=fixed, step={step}}}", a, b, start, steps, 0.0, 1e-12,
            exponentiated(a, b, start, steps, step))
a, b = problem(12, 8)
add("exponentiated_gradient", a, b, np.full(8, 1 / 8), 100000, 1e-12, 1e-6, solution(a, b))

pathlib.Path(__file__).with_name("golden.csv").write_text("\n".join(lines) + "\n")
