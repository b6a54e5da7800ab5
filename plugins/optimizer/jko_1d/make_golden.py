#!/usr/bin/env python3
"""Golden values of minimising movements: the functional of the paper on quantiles, minimised by scipy. Writes golden.csv
beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden
from scipy.optimize import minimize

golden = Golden("jko_1d", "scipy's BFGS and Newton-CG")
n, low, high, diffusion = 16, -4.0, 4.0, 0.7
h = (high - low) / n
x = low + (np.arange(n) + 0.5) * h
centre, stiffness = 0.3, 1.4
start = np.exp(-0.5 * (x - 1) ** 2)
start /= start.sum() * h
problem = {"domain": "grid", "potential": "quadratic", "interaction": "none", "diffusion": diffusion, "power": 1.0,
           "grid__begin": np.array([low]), "grid__end": np.array([high]), "grid__n_cells": np.array([n]),
           "potential__centre": np.array([centre]), "potential__precision": np.array([[stiffness]])}
quantiles = 9
edges = low + np.arange(n + 1) * h
cdf = np.append(0, np.cumsum(start) * h)


def movement(y, tau):
    def value(q):
        gaps = np.diff(q)
        if gaps.min() <= 0:
            return np.inf
        return ((q - y) ** 2).mean() / (2 * tau) + 0.5 * stiffness * ((q - centre) ** 2).mean() \
            - diffusion * np.log(quantiles * gaps).mean() * (quantiles - 1) / quantiles

    def slope(q):
        g = (q - y) / tau / quantiles + stiffness * (q - centre) / quantiles
        pull = diffusion / np.diff(q) / quantiles
        g[:-1] += pull
        g[1:] -= pull
        return g

    def bend(q):
        m = np.diag(np.full(quantiles, (1 / tau + stiffness) / quantiles))
        for i, s in enumerate(diffusion / np.diff(q) ** 2 / quantiles):
            m[i, i] += s
            m[i + 1, i + 1] += s
            m[i, i + 1] -= s
            m[i + 1, i] -= s
        return m

    found = minimize(value, y if np.diff(y).min() > 0 else np.sort(y), jac=slope, hess=bend, method="trust-exact",
                     options={"gtol": 1e-13, "maxiter": 1000})
    q = found.x
    for _ in range(5):
        q = q - np.linalg.solve(bend(q), slope(q))
    assert np.abs(slope(q)).max() < 1e-14
    return q


def cells(q):
    """Mass 1/n spread evenly between neighbours; half of it outside, at the density of the neighbour gap."""
    pieces = [(a, b, 1 / quantiles) for a, b in zip(q, q[1:])]
    pieces.append((q[0] - 0.5 * (q[1] - q[0]), q[0], 0.5 / quantiles))
    pieces.append((q[-1], q[-1] + 0.5 * (q[-1] - q[-2]), 0.5 / quantiles))
    p = np.zeros(n)
    for a, b, mass in pieces:
        overlap = np.clip(np.minimum(b, edges[1:]) - np.maximum(a, edges[:-1]), 0, None)
        p += mass * overlap / (b - a) / h
    assert abs(p.sum() * h - 1) < 1e-13
    return p


first = np.interp((np.arange(quantiles) + 0.5) / quantiles, cdf, edges)
dt = 0.1
one = movement(first, dt)
two = movement(one, dt)
bdf = movement((4 * one - first) / 3, 2 * dt / 3)
common = f"levels=uniform, n_quantiles={quantiles}, time_step={dt}"
golden.add(f"jko_1d{{scheme=euler, {common}}}", "free_energy", problem, start, 10, dt, 1e-9, cells(one))
golden.add(f"jko_1d{{scheme=euler, {common}}}", "free_energy", problem, start, 10, 2 * dt, 1e-9, cells(two))
golden.add(f"jko_1d{{scheme=bdf2, {common}}}", "free_energy", problem, start, 10, 2 * dt, 1e-9, cells(bdf))
golden.write(__file__)
