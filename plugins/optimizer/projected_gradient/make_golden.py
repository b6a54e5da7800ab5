#!/usr/bin/env python3
"""Golden values of projected gradient: projections by sorting, and solutions.

Independent of the C++ code: numpy for the steps, scipy's SLSQP for the solutions, polished by the linear system on the
support that it finds. Writes golden.csv beside this file:
  spec; A row-major; b; start; iterations; gap tolerance; error bound; p
"""
import pathlib
import numpy as np
from scipy.optimize import minimize

rng = np.random.default_rng(13)


def problem(m, n):
    return rng.normal(size=(m, n)).round(6), rng.normal(size=m).round(6)



def project(x):
    u = np.sort(x)[::-1]
    tau = (np.cumsum(u) - 1) / np.arange(1, len(u) + 1)
    return np.maximum(x - tau[np.flatnonzero(u > tau)[-1]], 0)


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


# An identity design has L = 1: one step of any variant whose first L is below 1.05 solves it, so the answer is a projection.
x = rng.normal(size=6).round(6)
for spec in ("projected_gradient", "projected_gradient{variant=plain}", "projected_gradient{step=fixed}"):
    add(spec, np.eye(6), x, np.full(6, 1 / 6), 1000, 1e-13, 1e-7, project(x))
for m, n in ((12, 8), (20, 10)):
    a, b = problem(m, n)
    for spec in ("projected_gradient", "projected_gradient{variant=plain}",
                 "projected_gradient{variant=plain, step=fixed}", "projected_gradient{step=fixed}"):
        add(spec, a, b, np.full(n, 1 / n), 200000, 1e-12, 1e-6, solution(a, b))

pathlib.Path(__file__).with_name("golden.csv").write_text("\n".join(lines) + "\n")
