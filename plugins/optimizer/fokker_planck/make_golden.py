#!/usr/bin/env python3
"""Golden values of the finite volumes: dense matrices and numpy's solver. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden

golden = Golden("fokker_planck", "numpy, dense matrices")
n, low, high, diffusion = 24, -4.0, 4.0, 0.7
h = (high - low) / n
x = low + (np.arange(n) + 0.5) * h
centre, stiffness = 0.3, 1.4
potential = 0.5 * stiffness * (x - centre) ** 2
start = np.exp(-2 * (x - 1) ** 2)
start /= start.sum() * h
problem = {"domain": "grid", "potential": "quadratic", "interaction": "none", "diffusion": diffusion, "power": 1.0,
           "grid__begin": np.array([low]), "grid__end": np.array([high]), "grid__n_cells": np.array([n]),
           "potential__centre": np.array([centre]), "potential__precision": np.array([[stiffness]])}


def scharfetter_gummel(i):
    """Flux from cell i to i + 1 as weights of the two cells."""
    z = (potential[i + 1] - potential[i]) / diffusion
    return diffusion / h * z / np.expm1(z), diffusion / h * -z / np.expm1(-z)


def chang_cooper(i):
    """B = V' at the face, w = h B / D, delta = 1/w - 1/(e^w - 1); F = -(B ((1 - delta) p+ + delta p) + D (p+ - p)/h)."""
    slope = stiffness * (low + (i + 1) * h - centre)
    w = h * slope / diffusion
    delta = 1 / w - 1 / np.expm1(w)
    return diffusion / h - slope * delta, diffusion / h + slope * (1 - delta)


def generator(flux):
    matrix = np.zeros((n, n))
    for i in range(n - 1):
        up, down = flux(i)
        matrix[i, i] -= up / h
        matrix[i, i + 1] += down / h
        matrix[i + 1, i] += up / h
        matrix[i + 1, i + 1] -= down / h
    return matrix


for name, flux in (("scharfetter_gummel", scharfetter_gummel), ("chang_cooper", chang_cooper)):
    a = generator(flux)
    for scheme, theta in (("implicit_euler", 1.0), ("crank_nicolson", 0.5)):
        p, dt = start, 0.02
        for _ in range(5):
            p = np.linalg.solve(np.eye(n) - theta * dt * a, p + (1 - theta) * dt * a @ p)
        golden.add(f"fokker_planck{{scheme={scheme}, flux={name}, time_step={dt}}}", "free_energy", problem, start, 1000, 5 * dt,
                   1e-12, p)
golden.write(__file__)
