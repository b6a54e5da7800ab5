#!/usr/bin/python3
# Golden values of rotary embedding: rows turned as complex numbers in numpy, then plain products.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d = 8
    for spec, base, pairing, dims, causal, offset in (
        ("rope", 1e4, "half", 8, True, 0),
        ("rope{pairing=interleaved, theta_base=100}", 100, "interleaved", 8, False, 0),
        ("rope{n_rot_dims=4}", 1e4, "half", 4, True, 20),
    ):
        n_q, n_k = 4, offset + 4
        q, k = golden.rows(3, n_q, d), golden.rows(4, n_k, d)
        theta = base ** (-2 * np.arange(dims // 2) / dims)
        turn = lambda x, p: np.hstack([golden.rotate(x[:, :dims], p[:, None] * theta, pairing), x[:, dims:]])
        s = turn(q, np.arange(n_q) + offset) @ turn(k, np.arange(n_k)).T
        golden.write(out, spec, causal, offset, 0, q, k, np.stack([s] * 2))
    # Two axes on a 2 x 3 image: half of the pairs for each, each with its own run of frequencies.
    y, x = np.divmod(np.arange(6), 3)
    q, k = golden.rows(5, 6, d), golden.rows(6, 6, d)
    theta = 1e4 ** (-2 * np.arange(2) / 4)
    angle = np.hstack([y[:, None] * theta, x[:, None] * theta])
    s = golden.rotate(q, angle) @ golden.rotate(k, angle).T
    golden.write(out, "rope", False, 0, 0, q, k, s[None], np.stack([y, x], 1))
