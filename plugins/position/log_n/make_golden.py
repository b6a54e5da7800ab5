#!/usr/bin/python3
# Golden values of the log n scales, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, length = 4, 9, 4
    q, k = golden.rows(47, n, d), golden.rows(48, n, d)
    r, count = golden.distances(n, n), np.arange(1, n + 1)[:, None]
    rope = golden.turned(q, k, r[..., None] * golden.frequencies(d))
    ratio = np.log(count) / np.log(length)
    for spec, scores, causal in (
        ("log_n", np.maximum(1, ratio) * (q @ k.T), True),
        ("log_n{of=rope}", np.maximum(1, ratio) * rope, True),
        ("log_n{of=rope}", np.log(n) / np.log(length) * rope, False),
        ("log_n{rule=train}", ratio * (q @ k.T), True),
        ("log_n{rule=llama4, interval=3}", (0.1 * np.log(count // 3 + 1) + 1) * (q @ k.T), True),
        ("log_n{of=log_n{rule=train}}", np.maximum(1, ratio) * ratio * (q @ k.T), True),
    ):
        golden.write(out, spec, causal, 0, length, q, k, np.stack([scores] * 2))
