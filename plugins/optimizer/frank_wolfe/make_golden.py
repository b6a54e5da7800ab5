#!/usr/bin/env python3
"""Golden values of Frank-Wolfe: single steps of every variant, and solutions. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden, least_squares_problem, least_squares_solution

rng = np.random.default_rng(11)
golden = Golden("frank_wolfe", "numpy, scipy's SLSQP")


def vertex(p, g, used_only=False):
    d = np.zeros_like(p)
    d[np.argmin(np.where(p > 0, g, np.inf) if used_only else g)] = 1
    return d


def worst(p, g):
    return np.argmax(np.where(p > 0, g, -np.inf))


def toward(p, g):
    return vertex(p, g) - p, 1.0


def away(p, g):
    a = worst(p, g)
    d = p.copy()
    d[a] -= 1
    return toward(p, g) if p @ g - g.min() >= g[a] - p @ g else (d, p[a] / (1 - p[a]))


def pairwise(p, g, used_only=False):
    a = worst(p, g)
    d = vertex(p, g, used_only)
    d[a] -= 1
    return d, p[a]


def local_gap(p, g):
    return g[worst(p, g)] - g[p > 0].min()


def blended(p, g):
    return pairwise(p, g, True) if local_gap(p, g) >= p @ g - g.min() else toward(p, g)


def corrective(p, g):
    return pairwise(p, g, local_gap(p, g) >= 0.1 * (p @ g - g.min()))


def frank_wolfe(a, b, p, iterations, direction, open_loop=False):
    for k in range(iterations):
        g = a.T @ (a @ p - b)
        d, t_max = direction(p, g)
        if not d.any():
            break  # at the minimum
        t = 2 / (k + 2) if open_loop else min(t_max, -(g @ d) / np.sum((a @ d) ** 2))
        p = p + t * d
        if t == t_max and not open_loop:
            p[np.abs(p) < 1e-15] = 0
    return p


a, b = least_squares_problem(rng, 7, 6)
start = np.full(6, 1 / 6)
rules = {"line_search": toward, "away": away, "pairwise": pairwise, "blended_pairwise": blended,
         "fully_corrective": corrective}
for steps in (1, 2, 9):
    golden.least_squares("frank_wolfe{variant=open_loop}", a, b, start, steps, 0.0, 1e-12,
                         frank_wolfe(a, b, start, steps, toward, open_loop=True))
    for name, rule in rules.items():
        golden.least_squares(f"frank_wolfe{{variant={name}}}", a, b, start, steps, 0.0, 1e-12,
                             frank_wolfe(a, b, start, steps, rule))
a, b = least_squares_problem(rng, 12, 8)
for name in ("away", "pairwise", "blended_pairwise", "fully_corrective"):
    golden.least_squares(f"frank_wolfe{{variant={name}}}", a, b, np.full(8, 1 / 8), 100000, 1e-12, 1e-6,
                         least_squares_solution(a, b))
golden.write(__file__)
