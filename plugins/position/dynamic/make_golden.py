#!/usr/bin/python3
# Golden values of dynamic scaling: every query with its own frequencies, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, length = 8, 9, 4
    q, k = golden.rows(33, n, d), golden.rows(34, n, d)
    r, theta = golden.distances(n, n)[..., None], golden.frequencies(d)
    aware = lambda s: golden.frequencies(d, 1e4 * s ** (d / (d - 2)))
    seen = np.maximum(np.arange(n) + 1, length)
    rows = lambda frequencies: np.stack([golden.turned(q[i : i + 1], k, r[i : i + 1] * frequencies(i))[0] for i in range(n)])
    for spec, scores in (
        ("dynamic", rows(lambda i: aware(seen[i] / length))),
        ("dynamic{of=pi}", rows(lambda i: theta * length / seen[i])),
        ("dynamic{of=pi, alpha=2}", rows(lambda i: theta / (2 * seen[i] / length - 1))),
        ("dynamic{form=local_static}", rows(lambda i: aware(n / length))),
    ):
        golden.write(out, spec, True, 0, length, q, k, np.stack([scores] * 2))
    golden.write(out, "dynamic{of=pi}", False, 0, length, q, k, np.stack([rows(lambda i: theta * length / n)] * 2))
