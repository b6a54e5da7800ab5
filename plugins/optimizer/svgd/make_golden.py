#!/usr/bin/env python3
"""Golden values of SVGD: the sum over pairs, written out. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden

rng = np.random.default_rng(19)
golden = Golden("svgd", "numpy")
n, centre, diffusion = 7, np.array([0.4, -0.2]), 0.6
precision = np.array([[1.5, 0.3], [0.3, 0.8]])
x = rng.normal(size=(n, 2)).round(6)
problem = {"domain": "particles", "potential": "quadratic", "interaction": "none", "diffusion": diffusion, "power": 1.0,
           "particles": x, "potential__centre": centre, "potential__precision": precision}


def velocity(x, b):
    score = -(x - centre) @ precision / diffusion
    phi = np.zeros_like(x)
    for i in range(n):
        for j in range(n):
            k = np.exp(-np.sum((x[j] - x[i]) ** 2) / b)
            phi[i] += (k * score[j] - 2 / b * (x[j] - x[i]) * k) / n
    return phi


def median_bandwidth(x):
    squares = sorted(np.sum((x[i] - x[j]) ** 2) for i in range(n) for j in range(i))
    return squares[len(squares) // 2] / np.log(n)


step = 0.1
for given in (0.9, 0.0):
    y = x
    for _ in range(5):
        y = y + step * velocity(y, given or median_bandwidth(y))
    golden.add(f"svgd{{step=fixed, time_step={step}, bandwidth={given}}}", "free_energy", problem, x, 100, 5 * step, 1e-11, y)
y, square = x, None
for _ in range(5):
    phi = velocity(y, median_bandwidth(y))
    square = phi ** 2 if square is None else 0.9 * square + 0.1 * phi ** 2
    y = y + step / (1e-6 + np.sqrt(square)) * phi
golden.add(f"svgd{{step=adagrad, time_step={step}}}", "free_energy", problem, x, 100, 5 * step, 1e-10, y)
golden.write(__file__)
