#!/usr/bin/python3
# Golden values of Sandwich: inner products of sinusoidal embeddings, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, heads = 4, 6, 4
    q, k = golden.rows(59, n, d), golden.rows(60, n, d)
    t = np.arange(n)[:, None]
    for spec, terms, dims, origin in (
        ("sandwich", np.arange(1, 65), 128, 0), ("sandwich{terms=attention_gym}", np.arange(64), 128, 0),
        ("sandwich{bias_dims=16, centred=true}", np.arange(1, 9), 16, 8),
    ):
        angle = t / 1e4 ** (2 * terms / dims)
        embedding = np.hstack([np.sin(angle), np.cos(angle)])
        bias = embedding @ embedding.T - origin
        for causal in (True, False):
            golden.write(out, spec, causal, 0, 0, q, k, np.stack([q @ k.T + bias / (8 * (h + 1) / heads) for h in range(heads)]))
