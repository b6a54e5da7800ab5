#!/usr/bin/python3
# Golden values of hedgehog: both feature maps in numpy, the softmax by scipy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

from scipy.special import softmax

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (feature, causal) in enumerate([("softmax", True), ("softmax", False), ("exp", True), ("exp", False)]):
        q, k, v = golden.inputs(660 + seed, 2, 1, 5, 6, 4, 3)
        rng = np.random.default_rng(670 + seed)
        p = {
            "query_matrix": golden.rounded(np.eye(4) + 0.2 * rng.normal(size=(2, 4, 4))),
            "query_bias": golden.rounded(0.3 * rng.normal(size=(2, 4))),
            "key_matrix": golden.rounded(np.eye(4) + 0.2 * rng.normal(size=(2, 4, 4))),
            "key_bias": golden.rounded(0.3 * rng.normal(size=(2, 4))),
        }
        both = lambda y: np.concatenate([y, -y], -1)
        phi = (lambda y: softmax(2 * both(y), axis=-1)) if feature == "softmax" else (lambda y: np.exp(both(y)))
        w = np.zeros((2, 5, 6))
        seen = golden.scores(q, k, causal)[1]
        for h in range(2):
            mapped_q = phi(q[h] @ p["query_matrix"][h] + p["query_bias"][h])
            s = np.where(seen, mapped_q @ phi(k[0] @ p["key_matrix"][h] + p["key_bias"][h]).T, 0)
            w[h] = s / (s.sum(-1, keepdims=True) + (1e-6 if feature == "softmax" else 0))
        o = np.stack([w[h] @ v[0] for h in range(2)])
        golden.write_output(out, f"hedgehog{{feature={feature}}}", causal, q, k, v, o, {}, p)
