#!/usr/bin/env python3
"""Golden values of softmax gradients: Adam step by step, and closed forms for L-BFGS. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden

rng = np.random.default_rng(16)
golden = Golden("softmax_gradient", "numpy")
c = rng.normal(size=7).round(6)
epsilon = 0.5


def softmax(theta):
    p = np.exp(theta - theta.max())
    return p / p.sum()


start = np.array([0.1, 0.3, 0.2, 0.1, 0.15, 0.1, 0.05])
theta, m, v = np.log(start), np.zeros(7), np.zeros(7)
for k in range(1, 11):
    p = softmax(theta)
    g = c + epsilon * (np.log(p) + 1)
    d = p * (g - p @ g)
    m = 0.9 * m + 0.1 * d
    v = 0.999 * v + 0.001 * d * d
    theta = theta - 0.1 * (m / (1 - 0.9 ** k)) / (np.sqrt(v / (1 - 0.999 ** k)) + 1e-8)
    if k in (1, 2, 10):
        golden.add("softmax_gradient{variant=adam}", "linear_entropy", {"c": c, "epsilon": epsilon}, start, k, 0, 1e-11,
                   softmax(theta))
for spec in ("softmax_gradient", "softmax_gradient{variant=adam}"):
    golden.add(spec, "linear_entropy", {"c": c, "epsilon": epsilon}, start, 20000, 1e-10, 1e-5, softmax(-c / epsilon))
golden.write(__file__)
