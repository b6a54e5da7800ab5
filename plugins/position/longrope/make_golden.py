#!/usr/bin/python3
# Golden values of LongRoPE: each token turned by itself, start tokens without interpolation, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, length = 8, 6, 4
    q, k = golden.rows(31, n, d), golden.rows(32, n, d)
    theta = golden.frequencies(d)
    given = np.array([1.0, 1.5, 3.0, 7.5])
    s = n / length
    aware = s ** (2 * np.arange(d // 2) / (d - 2))
    su = 1 + np.log(s) / np.log(length)
    for spec, factors, start, scale, train in (
        ("longrope", aware, 0, su, length),
        ("longrope{long_factors=[1, 1.5, 3, 7.5], n_start=3}", given, 3, su, length),
        ("longrope{long_factors=[1, 1.5, 3, 7.5], attention_factor=yarn}", given, 0, (0.1 * np.log(s) + 1) ** 2, length),
        ("longrope{short_factors=[1, 1.5, 3, 7.5], attention_factor=none}", given, 0, 1.0, 100),
    ):
        t = np.arange(n)
        angle = np.where(t[:, None] < start, t[:, None] * theta, t[:, None] * theta / factors)
        scores = scale * golden.rotate(q, angle) @ golden.rotate(k, angle).T
        golden.write(out, spec, True, 0, train, q, k, np.stack([scores] * 2))
    # The attention factor is log_L(L s).
    assert np.isclose(su, np.log(length * s) / np.log(length))
