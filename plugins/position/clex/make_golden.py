#!/usr/bin/python3
# Golden values of CLEX: the differential equation solved by scipy to 1e-12, and its exact solution without training.
import os
import sys

import numpy as np
from scipy.integrate import solve_ivp

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden


def frequencies(d, t_end, up, down, act):
    theta = golden.frequencies(d)
    index = np.arange(0, d, 2)
    ntk = lambda t: (1e4 * (2 * t - 1) ** (d / (d - 2))) ** (-index / d)
    rate = lambda t: (-2 * index / (d - 2)) * (2 * t - 1) ** (-index / (d - 2) - 1) * theta
    slope = lambda t, y: act((y + np.log(ntk(t))) @ up) @ down + rate(t) / ntk(t)
    return np.exp(solve_ivp(slope, (1, t_end), np.log(theta), method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1])


silu = lambda s: s / (1 + np.exp(-s))

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with scipy\n")
    d, n = 8, 7
    q, k = golden.rows(69, n, d), golden.rows(70, n, d)
    r = golden.distances(n, n)[..., None]
    up, down = golden.rows(71, d // 2, d) / 8, golden.rows(72, d, d // 2) / 64
    zero = np.zeros_like(down)
    # Without training: NTK-aware scaling with the factor 2 t - 1.
    aware = golden.frequencies(d, 1e4 * 5 ** (d / (d - 2)))
    assert np.allclose(frequencies(d, 3, up, zero, silu), aware, rtol=1e-9)
    for spec, length, test, angle, parameters in (
        ("clex{step=0.02}", 4, 12, aware, (up, zero)),
        ("clex{step=0.02}", 4, 11, frequencies(d, 3, up, down, silu), (up, down)),
        ("clex{step=0.02, activation=tanh}", 4, 8, frequencies(d, 2, up, down, np.tanh), (up, down)),
        ("clex", 8, 8, golden.frequencies(d), (up, down)),
    ):
        golden.write(out, spec, True, 0, length, q, k, np.stack([golden.turned(q, k, r * angle)] * 2), context={"test_length": test}, parameters=parameters)
