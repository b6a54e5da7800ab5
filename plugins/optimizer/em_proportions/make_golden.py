#!/usr/bin/env python3
"""Golden values of EM: single steps, and solutions of mixture problems. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden, em_step, mixture_solution

rng = np.random.default_rng(14)
golden = Golden("em_proportions", "numpy")
likelihood = rng.exponential(size=(9, 5)).round(6)
start = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
p = start
for steps in range(1, 8):
    p = em_step(likelihood, p)
    if steps in (1, 2, 7):
        golden.add("em_proportions{acceleration=none}", "mixture", {"likelihood": likelihood}, start, steps, 0, 1e-13, p)
for shape in ((9, 5), (30, 6)):
    likelihood = rng.exponential(size=shape).round(6)
    for spec in ("em_proportions", "em_proportions{acceleration=none}"):
        golden.add(spec, "mixture", {"likelihood": likelihood}, np.full(shape[1], 1 / shape[1]), 100000, 1e-12, 1e-5,
                   mixture_solution(likelihood))
golden.write(__file__)
