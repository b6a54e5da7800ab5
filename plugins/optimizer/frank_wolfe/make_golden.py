#!/usr/bin/env python3
"""Golden values of Frank-Wolfe: single steps of four variants, and solutions.

Independent of the C++ code: numpy for the steps, scipy's SLSQP for the solutions, polished by the linear system on the
support that it finds. Writes golden.csv beside this file:
  spec; A row-major; b; start; iterations; gap tolerance; error bound; p
"""
import pathlib
import numpy as np
from scipy.optimize import minimize

rng = np.random.default_rng(21)


def problem(m, n):
    return rng.normal(size=(m, n)).round(6), rng.normal(size=m).round(6)



def toward(p, g):
    d = -p
    d[np.argmin(g)] += 1
    return d, 1.0


def away(p, g):
    worst = np.argmax(np.where(p > 0, g, -np.inf))
    d = p.copy()
    d[worst] -= 1
    if p @ g - g.min() >= g[worst] - p @ g:
        return toward(p, g)
    return d, p[worst] / (1 - p[worst])


def pairwise(p, g):
    worst = np.argmax(np.where(p > 0, g, -np.inf))
    d = np.zeros_like(p)
    d[np.argmin(g)] += 1
    d[worst] -= 1
    return d, p[worst]


def frank_wolfe(a, b, p, iterations, direction, open_loop=False):
    for k in range(iterations):
        g = a.T @ (a @ p - b)
        d, t_max = direction(p, g)
        t = 2 / (k + 2) if open_loop else min(t_max, -(g @ d) / np.sum((a @ d) ** 2))
        p = p + t * d
        if t == t_max and not open_loop:
            p[np.abs(p) < 1e-15] = 0
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
start = np.full(6, 1 / 6)
for steps in (1, 2, 9):
    add("frank_wolfe{variant=open_loop}", a, b, start, steps, 0.0, 1e-12,
        frank_wolfe(a, b, start, steps, toward, open_loop=True))
    for name, rule in (("line_search", toward), ("away", away), ("pairwise", pairwise)):
        add(f"frank_wolfe{{variant={name}}}", a, b, start, steps, 0.0, 1e-12, frank_wolfe(a, b, start, steps, rule))
a, b = problem(12, 8)
for name in ("away", "pairwise"):
    add(f"frank_wolfe{{variant={name}}}", a, b, np.full(8, 1 / 8), 100000, 1e-12, 1e-6, solution(a, b))

pathlib.Path(__file__).with_name("golden.csv").write_text("\n".join(lines) + "\n")
