#!/usr/bin/python3
# Golden values of CoCA: the [n, n, d] tensors of the paper and of the published program, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 8, 7
    q, k = golden.rows(53, n, d), golden.rows(54, n, d)
    half, theta = d // 2, golden.frequencies(d)
    t = np.maximum(0, (k[:, :half] + k[:, half:]) / 2)
    # Paper: key of the pair (i, j) is q_i scaled by t_j; both are rotated by their positions.
    pairs = q[:, None, :] * np.hstack([t, t])[None, :, :]
    paper = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            paper[i, j] = golden.rotate(q[i : i + 1], (i * theta)[None])[0] @ golden.rotate(pairs[i, j : j + 1], (j * theta)[None])[0]
    turn = lambda x: golden.rotate(x, np.arange(n)[:, None] * theta)
    code = np.einsum("id,jd,id->ij", q, turn(np.hstack([t, t])), turn(q))
    for causal in (True, False):
        golden.write(out, "coca", causal, 0, 0, q, k, np.stack([paper] * 2))
        golden.write(out, "coca{form=code}", causal, 0, 0, q, k, np.stack([code] * 2))
    # Interleaved pairs: the same on permuted components.
    order = np.ravel([[m, m + half] for m in range(half)])
    golden.write(out, "coca{pairing=interleaved}", True, 0, 0, q[:, order], k[:, order], np.stack([paper] * 2))
