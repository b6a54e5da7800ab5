#!/usr/bin/python3
# Golden values of the four NTK scalings: as changed bases where the source has a base, as factors otherwise, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, s = 16, 6, 8.0
    q, k = golden.rows(23, n, d), golden.rows(24, n, d)
    r, m, half = golden.distances(n, n)[..., None], np.arange(d // 2), d // 2
    theta = golden.frequencies(d)
    a = lambda p: np.log(s) / half**p
    for variant, angle in (
        ("aware", golden.frequencies(d, 1e4 * s ** (d / (d - 2)))),
        ("old", golden.frequencies(d, 1e4 * s)),
        ("fixed", theta / (s ** (2 / d)) ** (m + 1)),
        ("mixed", theta * np.exp(-a(0.625) * (m + 1) ** 0.625)),
        ("mixed, mixed_power=0.75", theta * np.exp(-a(0.75) * (m + 1) ** 0.75)),
        ("mixed, mixed_power=0", theta / s),
        ("mixed, mixed_power=1", theta / (s ** (2 / d)) ** (m + 1)),
    ):
        golden.write(out, f"ntk{{variant={variant}, scale=8}}", True, 0, 0, q, k, np.stack([golden.turned(q, k, r * angle)] * 2))
    # Identities of the sources: aware and fixed end exactly at PI, aware begins exactly at RoPE.
    assert np.isclose(golden.frequencies(d, 1e4 * s ** (d / (d - 2)))[-1], theta[-1] / s)
    assert np.isclose((theta / (s ** (2 / d)) ** (m + 1))[-1], theta[-1] / s)
