#!/usr/bin/env python3
"""Golden values of Wasserstein flows: particles by sums over pairs, grids by fluxes face by face. Writes golden.csv beside
this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden

rng = np.random.default_rng(20)
golden = Golden("wasserstein_flow", "numpy")
n, centre, diffusion, sd, step = 6, np.array([0.4, -0.2]), 0.6, 0.7, 0.05
precision = np.array([[1.5, 0.3], [0.3, 0.8]])
x = rng.normal(size=(n, 2)).round(6)


def velocity(x, blob, m):
    kernel = np.array([[np.exp(-np.sum((p - q) ** 2) / (2 * sd * sd)) / (2 * np.pi * sd * sd) for q in x] for p in x])
    q = kernel.mean(axis=1)
    v = -(x - centre) @ precision
    for i in range(n):
        for j in range(n):
            slope = -(x[i] - x[j]) / sd ** 2 * kernel[i, j] / n
            v[i] -= diffusion * slope * (q[i] ** (m - 2) + q[j] ** (m - 2) if blob else m * q[i] ** (m - 2))
            v[i] -= 0.5 * (x[i] - x[j]) / n  # W = 0.5 |z|^2 / 2
    return v


for m in (1.0, 2.0):
    problem = {"domain": "particles", "potential": "quadratic", "interaction": "quadratic", "interaction_strength": 0.5,
               "diffusion": diffusion, "power": m, "particles": x, "potential__centre": centre,
               "potential__precision": precision}
    for internal in ("blob", "score"):
        blob = internal == "blob"
        euler, heun = x, x
        for _ in range(4):
            euler = euler + step * velocity(euler, blob, m)
            first = velocity(heun, blob, m)
            heun = heun + step / 2 * (first + velocity(heun + step * first, blob, m))
        for scheme, y in (("euler", euler), ("heun", heun)):
            golden.add(f"wasserstein_flow{{internal={internal}, scheme={scheme}, bandwidth={sd}, time_step={step}}}",
                       "free_energy", problem, x, 100, 4 * step, 1e-12, y)

cells, low, high, m, stiffness = 20, -3.0, 3.0, 2.0, 1.2
h = (high - low) / cells
z = low + (np.arange(cells) + 0.5) * h
start = np.exp(-((z - 0.5) ** 2)) + 0.05
start /= start.sum() * h
problem = {"domain": "grid", "potential": "quadratic", "interaction": "quadratic", "interaction_strength": 0.5,
           "diffusion": 0.3, "power": m, "grid__begin": np.array([low]), "grid__end": np.array([high]),
           "grid__n_cells": np.array([cells]), "potential__centre": np.array([0.2]),
           "potential__precision": np.array([[stiffness]])}


def rate(p):
    xi = 0.5 * stiffness * (z - 0.2) ** 2 + 0.3 * m / (m - 1) * p ** (m - 1)
    xi = xi + np.array([np.sum(0.25 * (a - z) ** 2 * p) * h for a in z])

    def slope(i):
        if i == 0 or i == cells - 1:
            return 0.0
        left, right = p[i] - p[i - 1], p[i + 1] - p[i]
        return 0.0 if left * right <= 0 else (left if abs(left) < abs(right) else right)

    out = np.zeros(cells)
    for i in range(cells - 1):
        v = -(xi[i + 1] - xi[i]) / h
        flux = v * (p[i] + slope(i) / 2) if v > 0 else v * (p[i + 1] - slope(i + 1) / 2)
        out[i] -= flux / h
        out[i + 1] += flux / h
    return out


dt = 0.004
euler, heun = start, start
for _ in range(5):
    euler = euler + dt * rate(euler)
    first = rate(heun)
    middle = heun + dt * first
    heun = (heun + middle + dt * rate(middle)) / 2
for scheme, p in (("euler", euler), ("heun", heun)):
    golden.add(f"wasserstein_flow{{scheme={scheme}, time_step={dt}}}", "free_energy", problem, start, 100, 5 * dt, 1e-12, p)
golden.write(__file__)
