#!/usr/bin/env python3
"""Golden values of Sinkhorn: plans by plain scaling of the kernel, run to its fixed point. Writes golden.csv beside this file."""
import pathlib
import sys
import numpy as np
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from golden_problems import Golden

rng = np.random.default_rng(17)
golden = Golden("sinkhorn", "numpy")
for n, m, epsilon in ((3, 4, 0.2), (6, 5, 0.05)):
    cost = rng.uniform(size=(n, m)).round(6)
    a, b = rng.uniform(0.5, 1.5, size=n).round(3), rng.uniform(0.5, 1.5, size=m).round(3)
    a, b = a / a.sum(), b / b.sum()
    kernel = np.exp(-cost / epsilon)
    v = np.ones(m)
    for _ in range(20000):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    plan = u[:, None] * kernel * v
    assert np.abs(plan.sum(axis=1) - a).max() < 1e-14
    for spec in ("sinkhorn", "sinkhorn{scaling=1}"):
        golden.add(spec, "transport", {"cost": cost, "a": a, "b": b, "epsilon": epsilon}, np.full(n * m, 1 / (n * m)), 20000,
                   1e-12, 1e-10, plan)
golden.write(__file__)
