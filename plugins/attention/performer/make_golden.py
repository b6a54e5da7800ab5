#!/usr/bin/python3
# Golden values of performer: the features of lemma 1 as written, without any shift, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, causal in enumerate([True, False]):
        q, k, v = golden.inputs(600 + seed, 2, 1, 5, 6, 4, 3)
        w = golden.rounded(np.random.default_rng(610 + seed).normal(size=(4, 10)))
        phi = lambda x: np.exp(x / 2**0.5 @ w - (x / 2**0.5 * x / 2**0.5).sum(-1, keepdims=True) / 2) / np.sqrt(10)
        s, seen, _ = golden.scores(phi(q), phi(k), causal)
        s = np.where(seen, s, 0)
        weights = s / s.sum(-1, keepdims=True)
        o = np.stack([weights[h] @ v[0] for h in range(2)])
        golden.write_output(out, "performer{features=10}", causal, q, k, v, o, {}, {"directions": w})
