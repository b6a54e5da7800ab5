#!/usr/bin/env python3
"""Golden values of Langevin steps where the noise is too small to see (D = 1e-300): gradient steps; MALA then takes every
proposal, because V falls by more than the quadratic form of its correction. The noise itself is tested by the contract's
rule on the stationary density. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden

rng = np.random.default_rng(18)
golden = Golden("langevin", "numpy")
n, centre = 5, np.array([0.4, -0.2])
precision = np.array([[1.5, 0.3], [0.3, 0.8]])
x = rng.normal(size=(n, 2)).round(6)
problem = {"domain": "particles", "potential": "quadratic", "interaction": "none", "diffusion": 1e-300, "power": 1.0,
           "particles": x, "potential__centre": centre, "potential__precision": precision}
h = 0.05
y = x
for _ in range(4):
    y = y - h * (y - centre) @ precision
for variant in ("ula", "mala"):
    golden.add(f"langevin{{variant={variant}, time_step={h}}}", "free_energy", problem, x, 100, 4 * h, 1e-13, y)
golden.write(__file__)
